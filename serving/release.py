"""Releases: build the Bento of an accepted package, export it, and switch the link that the supervisor follows."""

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import httpx

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
_INCLUDED = [
    "**/*.py",
    "**/*.yaml",
    "**/*.json",
    "**/*.parquet",
    "**/*.h5",
    "**/*.npy",
    "**/*.npz",
    "**/*.joblib",
    "**/*.txt",
]


class Locations:
    """Files and folders of the service in `var`."""

    def __init__(self, settings: Settings) -> None:
        service, run = settings.var_dir / "service", settings.var_dir / "run"
        self.releases = service / "releases"  # one folder per released version
        self.current = service / "current"  # symbolic link to the release in service
        self.verdicts = service / "verdicts"  # verdicts of the gate, one JSON file per version
        self.exports = service / "exports"  # exported Bentos, one file per version
        self.status = run / "service.json"  # process IDs, port and version of the running service
        self.log = run / "service.log"


def package_of(release: Path) -> Path:
    """Return the package in a release: an unpacked Bento stores it in src."""
    return release / "src"


def current_version(settings: Settings) -> str | None:
    """Return the version in service, None before the first release."""
    current = Locations(settings).current
    return current.resolve().name if current.exists() else None


def build_bento(package: Path, version: str, service: str, name: str, include: list[str], description: str) -> Any:
    """Build the Bento of a package, unless it exists in the Bento store (BENTOML_HOME); return it.

    `service` is its import path, MODULE:CLASS; `description`, in Markdown, is shown on the service's own page.
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

    where = Locations(settings)
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
    current = Locations(settings).current
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
    path = Locations(settings).verdicts / f"{version}.json"
    if not path.exists() or not read_json(path)["accepted"]:
        what = "rejected" if path.exists() else "not evaluated"
        raise ReleaseError(f"package {version}: the gate has {what} it. Run `shoplens gate` and see {path}")
    bento = build_bento(package, version, "serving.service:ShopLens", NAME, _INCLUDED, _DESCRIPTION)
    point_current_to(settings, export_bento(bento, settings, version))
    return version, True


def release_and_wait(settings: Settings, url: str, seconds: float) -> tuple[str, bool, float]:
    """Release outs/package and wait until the service at `url` is ready with it; with 0 seconds, do not wait.

    Returns the version, whether the release changed, and the number of seconds until the service was ready.

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
        where = Locations(settings)
        if before is None:
            where.current.unlink(missing_ok=True)
        else:
            point_current_to(settings, where.releases / before)
        raise ReleaseError(f"{error}. Rolled back to {before or 'no model'}; see {where.log}") from error


def wait_ready(url: str, version: str, seconds: float) -> float:
    """Wait until the service at `url` is ready with `version`; return the seconds waited.

    Raises:
        ReleaseError: the service is not ready within `seconds`.
    """
    began = time.monotonic()
    seen: str | None = None
    while time.monotonic() - began < seconds:
        seen = None
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
            seen = answer.headers.get(VERSION_HEADER) if answer.is_success else None
        if seen == version:
            return time.monotonic() - began
        time.sleep(0.5)
    raise ReleaseError(f"{url}/readyz: must report version {version} within {seconds:g} s; received {seen!r}")
