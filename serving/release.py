"""Releases: build the Bento of an accepted package, export it, and switch the link that the supervisor follows."""

import contextlib
import os
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.package import model_version, verify
from serving.schemas import VERSION_HEADER
from shoplens.errors import ReleaseError
from shoplens.files import read_json, whole_folder
from shoplens.settings import Settings

NAME = "shoplens"
_DESCRIPTION = """\
# ShopLens

Predicts who will buy and which items come next, and describes users. Each answer contains the `model_version` that
produced it and the `as_of` time for which it is valid; an answer that is not personal gives the reason in `fallback`.

    curl -X POST http://127.0.0.1:3000/recommend -H 'Content-Type: application/json' -d '{"user_id": "900", "k": 5}'

`GET /version` returns the versions in service. An invalid request is answered with 400 and the name of the field.
"""
_INCLUDED = ["**/*.py", "**/*.yaml", "**/*.json", "**/*.parquet", "**/*.h5", "**/*.npy", "**/*.joblib", "*.txt"]


@dataclass(frozen=True)
class Locations:
    """Files and folders of the service in `var`."""

    releases: Path  # one folder per released version
    current: Path  # symbolic link to the release in service
    verdicts: Path  # verdicts of the gate, one JSON file per version
    exports: Path  # exported Bentos, one file per version
    status: Path  # process IDs, port and version of the running service
    log: Path  # log of the running service


def locations(settings: Settings) -> Locations:
    """Return the locations for this project."""
    service, run = settings.var_dir / "service", settings.var_dir / "run"
    return Locations(
        releases=service / "releases",
        current=service / "current",
        verdicts=service / "verdicts",
        exports=service / "exports",
        status=run / "service.json",
        log=run / "service.log",
    )


def package_of(release: Path) -> Path:
    """Return the package in a release: an unpacked Bento stores it in src."""
    return release / "src"


def current_version(settings: Settings) -> str | None:
    """Return the version in service, None before the first release."""
    current = locations(settings).current
    return current.resolve().name if current.exists() else None


def build_bento(package: Path, version: str, service: str, name: str, include: list[str], description: str) -> Any:
    """Build the Bento of a package, unless it exists in the Bento store (BENTOML_HOME); return it.

    Args:
        package: Folder of the package.
        version: Version of the package.
        service: Import path of the service, MODULE:CLASS.
        name: Name of the Bento.
        include: Patterns of the files to include.
        description: Shown on the service's own page, Markdown.
    """
    import bentoml

    with contextlib.suppress(bentoml.exceptions.NotFound):
        return bentoml.bentos.get(f"{name}:{version}")
    with contextlib.chdir(package):  # BentoML resolves requirements relative to the working directory only
        return bentoml.bentos.build(
            service,
            name=name,
            version=version,
            build_ctx=".",
            include=include,
            python={"requirements_txt": "requirements.txt", "lock_packages": False},
            description=description,
            labels={"project": "shoplens"},
        )


def export_bento(bento: Any, settings: Settings, version: str) -> Path:
    """Unpack a Bento to var/service/releases/VERSION, export it as one file, and return the folder."""
    import bentoml

    where = locations(settings)
    release = where.releases / version
    if not release.exists():
        with whole_folder(release) as work:
            shutil.copytree(bento.path, work, dirs_exist_ok=True)
            verify(package_of(work))
    exported = where.exports / f"{NAME}-{version}.bento"
    if not exported.exists():
        where.exports.mkdir(parents=True, exist_ok=True)
        partial = where.exports / f".{version}.partial.bento"
        partial.unlink(missing_ok=True)
        bentoml.export_bento(bento.tag, str(partial))
        partial.replace(exported)
    return release


def point_current_to(settings: Settings, release: Path) -> None:
    """Point the link `current` to a release, atomically."""
    current = locations(settings).current
    current.parent.mkdir(parents=True, exist_ok=True)
    new = current.with_name(f".current.{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(Path("releases") / release.name)
    new.replace(current)


def release_package(settings: Settings) -> tuple[str, bool]:
    """Put outs/package into service; return its version and whether this changed anything.

    Raises:
        ReleaseError: the gate has not accepted this package.
    """
    package = settings.outs_dir / "package"
    version = model_version(package)
    if current_version(settings) == version:
        return version, False
    path = locations(settings).verdicts / f"{version}.json"
    if not path.exists() or not read_json(path)["accepted"]:
        what = "rejected" if path.exists() else "not evaluated"
        raise ReleaseError(f"package {version}: the gate has {what} it. Run `shoplens gate` and see {path}")
    bento = build_bento(package, version, "serving.service:ShopLens", NAME, _INCLUDED, _DESCRIPTION)
    point_current_to(settings, export_bento(bento, settings, version))
    return version, True


def release_and_wait(settings: Settings, url: str, seconds: float) -> tuple[str, bool, float]:
    """Release outs/package and wait until the service at `url` is ready with it; 0 seconds: do not wait.

    Returns:
        The version, whether this changed anything, and the seconds until the service was ready.

    Raises:
        ReleaseError: see `release_package`; or the service did not become ready and the previous release was restored.
    """
    before = current_version(settings)
    version, changed = release_package(settings)
    if seconds <= 0:
        return version, changed, 0.0
    try:
        return version, changed, wait_ready(url, version, seconds)
    except ReleaseError as error:
        if not changed:
            raise
        roll_back(settings, before)
        raise ReleaseError(f"{error}. Rolled back to {before or 'no model'}; see {locations(settings).log}") from error


def roll_back(settings: Settings, version: str | None) -> None:
    """Point the link `current` to an earlier release, or remove it."""
    where = locations(settings)
    if version is None:
        where.current.unlink(missing_ok=True)
    else:
        point_current_to(settings, where.releases / version)


def served_version(url: str) -> str | None:
    """Return the model version that the service reports in /readyz, None if it is not ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310  (the address is ours)
            return answer.headers.get(VERSION_HEADER) if answer.status == 200 else None
    except (urllib.error.URLError, OSError):
        return None


def wait_ready(url: str, version: str, seconds: float) -> float:
    """Wait until the service at `url` is ready with `version`; return the seconds waited.

    Raises:
        ReleaseError: the service is not ready within `seconds`.
    """
    began = time.monotonic()
    seen: str | None = None
    while time.monotonic() - began < seconds:
        seen = served_version(url)
        if seen == version:
            return time.monotonic() - began
        time.sleep(0.5)
    raise ReleaseError(f"{url}/readyz: must report version {version} within {seconds:g} s; received {seen!r}")
