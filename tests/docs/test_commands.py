"""Every command in the pages exists with its options, and every command of ours is in the README."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pydantic import SecretStr
from typer.main import get_command

from shoplens.cli import COMMANDS, build_app
from shoplens.params import load_params
from shoplens.settings import Settings

Page = Any  # tests/docs/conftest.py

# Files that the pages ask the reader to bring or to make.
READERS_FILES = {"data/my_log.csv.gz", "events/mappings/my_shop.yaml"}
# The part of docker-compose's command line that the pages use, as version 1.29.2 prints it in its help.
COMPOSE_WORDS: dict[str, set[str]] = {
    "build": set(),
    "config": {"--quiet"},
    "exec": {"-T"},
    "ps": set(),
    "run": {"--rm"},
    "stop": set(),
    "up": {"-d"},
}


def shoplens_command(name: str) -> click.Command:
    return get_command(build_app(name)).commands[name]  # type: ignore[attr-defined]


def options_of(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


def make_words(root: Path) -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*##", (root / "Makefile").read_text(), flags=re.MULTILINE))


def check_make(root: Path, words: list[str]) -> None:
    known = make_words(root)
    for word in words:
        assert word in known or re.fullmatch(r"(GPU|ARGS|PYTHON)=\S+", word), word


def check_shoplens(root: Path, words: list[str]) -> None:
    name, *arguments = words
    assert name in COMMANDS, name
    command = shoplens_command(name)
    with command.make_context(name, list(arguments), resilient_parsing=False) as context:
        values = [str(value) for value in context.params.values() if value is not None]
    check_files(root, [value for value in values if "/" in value and not value.startswith(("http", "s3://", "["))])


def check_dvc(root: Path, words: list[str]) -> None:
    from dvc.cli.parser import get_main_parser

    arguments = get_main_parser().parse_args(words)
    for setting in getattr(arguments, "set_param", None) or []:
        name, _, value = setting.partition("=")
        content = yaml.safe_load((root / "params.yaml").read_text())
        node = content
        *parents, leaf = name.split(".")
        for part in parents:
            node = node[part]
        assert leaf in node, f"{name} is no parameter"
        node[leaf] = yaml.safe_load(value)
        CHECKED_PARAMS.append(content)


CHECKED_PARAMS: list[dict[str, Any]] = []


def check_bentoml(root: Path, words: list[str]) -> None:
    from bentoml_cli.cli import create_bentoml_cli

    cli = create_bentoml_cli()
    name, target, *arguments = words
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in arguments if word.startswith("-")} <= known
    if ":" in target:
        module, _, service = target.partition(":")
        source = (root / f"{module.replace('.', '/')}.py").read_text()
        assert re.search(rf"^class {service}\b", source, flags=re.MULTILINE), target
    else:
        assert target == "$PWD/var/service/current"  # BentoML looks for a relative path below itself


def check_curl(root: Path, words: list[str]) -> None:
    address = next(word for word in words if word.startswith("http://"))
    route = address.rpartition("/")[2]
    if address.startswith("http://127.0.0.1:3001/"):
        check_collector(root, route, words)
        return
    assert re.fullmatch(r"http://127\.0\.0\.1:3000/\w+", address)
    source = (root / "serving/service.py").read_text()
    if "POST" in words:
        assert f'@bentoml.api(route="/{route}")' in source, route
        body = json.loads(words[words.index("-d") + 1])
        signature = re.search(rf"def {route}\(\s*self, ([^)]+)\) ->", source)
        assert signature is not None
        assert set(body) <= set(re.findall(r"(\w+):", signature[1])), route
    else:
        assert f'.get("/{route}")' in source, route


def check_collector(root: Path, route: str, words: list[str]) -> None:
    from events.collector.records import parse_event

    assert f'Route("/{route}"' in (root / "events/collector/app.py").read_text(), route
    if "POST" in words:
        assert parse_event(words[words.index("-d") + 1].encode()).reasons == ()


def check_compose(root: Path, words: list[str]) -> None:
    name, *rest = words
    assert name in COMPOSE_WORDS
    services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    at = next((i for i, word in enumerate(rest) if not word.startswith("-")), len(rest))
    assert set(rest[:at]) <= COMPOSE_WORDS[name]
    if name in {"build", "stop"}:
        assert set(rest[at:]) <= set(services)
    elif name in {"run", "exec"}:
        assert rest[at] in services


@pytest.mark.parametrize("name", sorted(COMPOSE_WORDS))
def test_docker_compose_has_the_options(name: str) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("no docker-compose here (Debian: apt-get install docker-compose)")
    text = subprocess.run([program, name, "--help"], capture_output=True, text=True, check=True).stdout
    for option in COMPOSE_WORDS[name]:
        assert re.search(rf"(^|[\s,]){option}\b", text, flags=re.MULTILINE), option


def check_files(root: Path, names: list[str]) -> None:
    """Each is in the repository, or below var/ and outs/, which runs make."""
    for name in names:
        assert name in READERS_FILES or name.startswith(("var/", "outs/")) or (root / name).exists(), name


def check_cp(root: Path, words: list[str]) -> None:
    source, target = words
    check_files(root, [source])
    assert target == ".env"


def check_chmod(root: Path, words: list[str]) -> None:
    assert words == ["600", ".env"]


def check_source(root: Path, words: list[str]) -> None:
    assert words == [".venv/bin/activate"]


def check_setting(root: Path, assignment: str) -> None:
    name, _, value = assignment.partition("=")
    assert name in {f"SHOPLENS_{field.upper()}" for field in Settings.model_fields}, assignment
    check_files(root, [value.removeprefix("$PWD/") + "/"])


PROGRAMS: dict[str, Callable[[Path, list[str]], None]] = {
    "bentoml": check_bentoml,
    "chmod": check_chmod,
    "cp": check_cp,
    "curl": check_curl,
    "docker-compose": check_compose,
    "dvc": check_dvc,
    "make": check_make,
    "shoplens": check_shoplens,
    "source": check_source,
}


def test_every_command_in_every_page_holds(root: Path, pages: list[Page]) -> None:
    seen = set()
    for page in pages:
        for line in page.commands:
            program, *words = shlex.split(line)
            while re.fullmatch(r"[A-Z_]+=\S+", program):
                check_setting(root, program)
                program, *words = words
            assert program in PROGRAMS, f"{page.path.name}: {line}"
            try:
                PROGRAMS[program](root, words)
            except (SystemExit, click.ClickException) as error:
                pytest.fail(f"{page.path.name}: {line}: {error}")
            seen.add(program)
    assert seen == set(PROGRAMS), "a checker without a command"


def test_parameters_set_in_the_pages_are_accepted(root: Path, english: Page, tmp_path: Path) -> None:
    CHECKED_PARAMS.clear()
    for line in english.commands:
        if line.startswith("dvc exp run"):
            check_dvc(root, shlex.split(line)[1:])
    assert CHECKED_PARAMS
    for content in CHECKED_PARAMS:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        load_params(path)


def test_make_words_are_all_in_the_readme(root: Path, english: Page) -> None:
    table = {row[0].strip("`").removeprefix("make ") for row in english.rows if row[0].startswith("`make ")}
    assert table == make_words(root)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_shoplens_command_is_in_the_readme_with_its_options(english: Page, name: str) -> None:
    rows = [row for row in english.rows if row[0] == f"`shoplens {name}`"]
    assert len(rows) == 1
    assert set(re.findall(r"`(--[\w-]+)`", rows[0][1])) == options_of(shoplens_command(name))


def test_the_readme_names_no_command_that_is_gone(english: Page) -> None:
    table = {row[0].strip("`").removeprefix("shoplens ") for row in english.rows if row[0].startswith("`shoplens ")}
    assert table == set(COMMANDS)


def test_settings_table_is_the_settings_class(english: Page) -> None:
    rows = {row[0].strip("`"): row[1].strip("`") for row in english.rows if row[0].startswith("`SHOPLENS_")}
    fields = Settings.model_fields
    assert set(rows) == {f"SHOPLENS_{name.upper()}" for name in fields}
    for name, field in fields.items():
        if field.default_factory is None and field.default is not None:
            held = field.default
            default = held.get_secret_value() if isinstance(held, SecretStr) else str(held)
            assert rows[f"SHOPLENS_{name.upper()}"] == default, name


def test_ports_in_the_readme_are_the_defaults(english: Page) -> None:
    rows = {row[0].strip("`"): row[1].strip("`") for row in english.rows if "_PORT`" in row[0]}
    assert rows == {"AIRFLOW_PORT": "8080", "SERVICE_PORT": "3000", "COLLECTOR_PORT": "3001"}
    port = next(p for p in shoplens_command("supervise").params if p.name == "port")
    assert (port.default, port.envvar) == (3000, "SERVICE_PORT")
    port = next(p for p in shoplens_command("collect").params if p.name == "port")
    assert (port.default, port.envvar) == (3001, "COLLECTOR_PORT")


def test_make_lines_parse(root: Path, english: Page) -> None:
    """`make --dry-run` knows each word (env is not made, nothing runs)."""
    for line in (line for line in english.commands if line.startswith("make ")):
        command = ["make", "--no-print-directory", "--dry-run", *shlex.split(line)[1:]]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
