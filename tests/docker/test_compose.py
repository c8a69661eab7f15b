"""Every image, command, path, port and variable of docker-compose.yml, held against the repository."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from shoplens.cli import build_app
from shoplens.settings import Settings

CLONE = "/opt/shoplens/"
# service -> the command that the image brings, not this repository
THIRD_PARTY = {"postgres", "redis", "s3"}
JOBS = {"clone", "bucket", "airflow-init"}


def variables(text: str) -> dict[str, tuple[str, str]]:
    """Each ${NAME:-default} or ${NAME:?message} of the file as NAME -> (operator, rest)."""
    found = re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)(?:(:[-?])([^}]*))?\}", text)
    return {name: (operator, rest) for name, operator, rest in found}


def words(service: dict[str, Any]) -> list[str]:
    return list(service.get("command", []))


def container_paths(service: dict[str, Any]) -> list[str]:
    return [word for word in words(service) if word.startswith(CLONE)]


class TestVariables:
    def test_example_names_exactly_what_compose_reads(self, compose_text: str, example: dict[str, str]) -> None:
        assert set(variables(compose_text)) == set(example)

    def test_secrets_are_required_and_empty_in_the_example(self, compose_text: str, example: dict[str, str]) -> None:
        required = {name for name, (operator, _) in variables(compose_text).items() if operator == ":?"}
        assert required == {name for name, value in example.items() if value == ""}
        assert {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "S3_SECRET_KEY", "AIRFLOW_FERNET_KEY"} <= required

    def test_a_required_variable_says_what_to_do(self, compose_text: str) -> None:
        for name, (operator, rest) in variables(compose_text).items():
            if operator == ":?":
                assert rest == f"set {name} in .env"

    def test_defaults_agree_with_the_example(self, compose_text: str, example: dict[str, str]) -> None:
        defaults = {name: rest for name, (operator, rest) in variables(compose_text).items() if operator == ":-"}
        assert defaults == {name: example[name] for name in defaults}

    def test_every_variable_of_the_example_is_explained(self, root: Path, example: dict[str, str]) -> None:
        lines = (root / ".env.example").read_text().splitlines()
        for name in example:
            at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}="))
            above = lines[at - 1]
            assert above.startswith(("# ", "S3_ACCESS_KEY=")), f"{name} has no comment above it"

    def test_no_password_is_written_down(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            for key, value in service.get("environment", {}).items():
                if re.search(r"PASSWORD$|SECRET|_KEY$|_AUTH$|KEY_ID$", key):
                    assert str(value).startswith("${"), f"{name}: {key}"

    def test_env_is_ignored_by_git_and_by_the_images(self, root: Path) -> None:
        assert "/.env" in (root / ".gitignore").read_text().splitlines()
        allowed = [line for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        assert "!.env" not in allowed
        assert "*" in (root / ".dockerignore").read_text().splitlines()


class TestServices:
    def test_images_are_pinned(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            _, _, tag = service["image"].partition(":")
            assert re.match(r"\d+\.\d+", tag), f"{name}: {service['image']} names no version"

    def test_own_images_are_built_here_and_carry_our_version(self, root: Path, compose: dict[str, Any]) -> None:
        version = re.search(r'^version = "(.+)"$', (root / "pyproject.toml").read_text(), flags=re.MULTILINE)[1]
        own = {s["image"] for s in compose["services"].values() if s["image"].startswith("shoplens-")}
        built = {s["image"] for s in compose["services"].values() if "build" in s}
        assert own == built
        assert {image.rpartition(":")[2] for image in own} == {version}

    def test_one_shot_or_watched(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            if name in JOBS:
                assert service["restart"] == "no"
                assert "healthcheck" not in service
            else:
                assert service["restart"] == "unless-stopped"
                assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}

    def test_waits_for_jobs_to_end_and_servers_to_be_healthy(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            for other, how in service.get("depends_on", {}).items():
                expected = "service_completed_successfully" if other in JOBS else "service_healthy"
                assert how == {"condition": expected}, f"{name} -> {other}"

    def test_only_loopback_is_published_and_ports_agree(self, compose: dict[str, Any], example: dict[str, str]) -> None:
        published = {name: s["ports"] for name, s in compose["services"].items() if "ports" in s}
        assert published == {
            "airflow-api-server": ["${BIND_ADDRESS:-127.0.0.1}:${AIRFLOW_PORT:-8080}:8080"],
            "service": ["${BIND_ADDRESS:-127.0.0.1}:${SERVICE_PORT:-3000}:3000"],
        }
        api = compose["services"]["airflow-api-server"]
        assert words(api)[-2:] == ["--port", "8080"]
        assert ":8080/" in api["healthcheck"]["test"][-1]
        assert words(compose["services"]["service"])[-4:] == ["--host", "0.0.0.0", "--port", "3000"]  # noqa: S104
        assert ":3000/" in compose["services"]["service"]["healthcheck"]["test"][-1]
        assert example["BIND_ADDRESS"] == "127.0.0.1"

    def test_addresses_between_services_exist(self, compose: dict[str, Any], compose_text: str) -> None:
        # what each service listens on inside the network
        listens = {"postgres": 5432, "redis": 6379, "s3": 8333, "airflow-api-server": 8080, "service": 3000}
        found = re.findall(r"(?:@|//)([a-z][a-z0-9-]*):(\d+)", compose_text)
        assert {host for host, _ in found} == set(listens)
        assert {(host, int(port)) for host, port in found} == set(listens.items())
        assert f"-s3.port={listens['s3']}" in compose["services"]["s3"]["entrypoint"][-1]

    def test_celery_and_the_online_store_use_different_databases(self, compose: dict[str, Any]) -> None:
        worker = merged(compose["services"]["airflow-worker"]["environment"])
        assert worker["SHOPLENS_REDIS_URL"].endswith("/0")
        assert worker["AIRFLOW__CELERY__BROKER_URL"].endswith("/1")

    def test_every_volume_is_declared_and_used(self, compose: dict[str, Any]) -> None:
        mounts = [m.split(":") for s in compose["services"].values() for m in s.get("volumes", [])]
        assert {m[0] for m in mounts if not m[0].startswith(".")} == set(compose["volumes"])
        assert {tuple(m) for m in mounts if m[0].startswith(".")} == {("./.git", "/source/.git", "ro")}

    def test_all_that_run_the_code_share_one_clone(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            if name not in THIRD_PARTY:
                assert "project:/opt/shoplens" in service["volumes"], name


def merged(environment: dict[str, Any]) -> dict[str, Any]:
    """PyYAML has merged `<<` already; kept as one place to say so."""
    assert "<<" not in environment
    return environment


class TestCommands:
    def test_paths_in_the_clone_exist(self, root: Path, compose: dict[str, Any]) -> None:
        found = [path for service in compose["services"].values() for path in container_paths(service)]
        assert found
        for path in found:
            assert (root / path.removeprefix(CLONE)).is_file(), path
        assert (root / "dags").is_dir()
        worker = compose["services"]["airflow-worker"]["environment"]
        assert worker["AIRFLOW__CORE__DAGS_FOLDER"] == f"{CLONE}dags"

    def test_shoplens_commands_exist(self, compose: dict[str, Any]) -> None:
        used = [words(s)[1:] for s in compose["services"].values() if words(s)[:1] == ["shoplens"]]
        assert [command for command, *_ in used] == ["supervise"]
        for command, *options in used:
            known = [o for p in get_command(build_app(command)).commands[command].params for o in p.opts]
            assert {word for word in options if word.startswith("--")} <= set(known)

    def test_the_settings_are_real_and_valid(self, root: Path, compose: dict[str, Any]) -> None:
        for service in compose["services"].values():
            names = [n for n in service.get("environment", {}) if n.startswith("SHOPLENS_")]
            for name in names:
                known = name.removeprefix("SHOPLENS_").lower() in Settings.model_fields
                assert known or name == "SHOPLENS_REPOSITORY", name  # docker/clone.sh reads that one
        assert Settings(root=root, online_store="redis", clock="data").online_store == "redis"

    def test_s3_variables_are_those_that_the_scripts_read(self, root: Path, compose: dict[str, Any]) -> None:
        scripts = "".join((root / "docker" / name).read_text() for name in ("clone.sh", "make_bucket.py"))
        given = set(compose["services"]["clone"]["environment"])
        read = set(re.findall(r"\b(S3_[A-Z_]+|SHOPLENS_REPOSITORY)\b", scripts))
        assert read <= given


class TestComposeItself:
    @pytest.fixture
    def program(self) -> str:
        found = shutil.which("docker-compose")
        if found is None:
            pytest.skip("no docker-compose here (Debian: apt-get install docker-compose)")
        return found

    @staticmethod
    def config(program: str, root: Path, env_file: Path) -> subprocess.CompletedProcess[str]:
        command = [program, "--env-file", str(env_file), "--file", str(root / "docker-compose.yml"), "config"]
        env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=root, timeout=60, check=False)

    @staticmethod
    def filled(root: Path, tmp_path: Path, leave_out: str = "") -> Path:
        text = (root / ".env.example").read_text()
        text = re.sub(r"^([A-Z0-9_]+)=$", r"\1=abc123", text, flags=re.MULTILINE)
        path = tmp_path / "env"
        path.write_text(re.sub(rf"^{leave_out}=.*$", f"{leave_out}=", text, flags=re.MULTILINE) if leave_out else text)
        return path

    def test_accepts_the_file(self, program: str, root: Path, tmp_path: Path) -> None:
        done = self.config(program, root, self.filled(root, tmp_path))
        assert done.returncode == 0, done.stderr
        resolved = yaml.safe_load(done.stdout)
        declared = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
        assert set(resolved["services"]) == set(declared)
        assert resolved["services"]["service"]["environment"]["SHOPLENS_REDIS_URL"] == "redis://:abc123@redis:6379/0"

    @pytest.mark.parametrize("secret", ["POSTGRES_PASSWORD", "AIRFLOW_ADMIN_PASSWORD", "S3_ACCESS_KEY"])
    def test_refuses_a_missing_secret_by_name(self, program: str, root: Path, tmp_path: Path, secret: str) -> None:
        done = self.config(program, root, self.filled(root, tmp_path, leave_out=secret))
        assert done.returncode != 0
        assert f"set {secret} in .env" in done.stderr
