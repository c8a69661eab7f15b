"""From an accepted package to a release: the Bento, its export, and the pointer that the supervisor follows."""

import contextlib
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from serving.package import model_version, verify
from serving.places import current_version, package_of, places
from serving.schemas import VERSION_HEADER
from shoplens.errors import ReleaseError
from shoplens.files import read_json, whole_folder
from shoplens.settings import Settings

NAME = "shoplens"
_DESCRIPTION = """\
# ShopLens

Who will buy, what they take next, and what is known of them. Every answer names the `model_version` that gave it and
the `as_of` moment at which it holds; an answer that is not personal says why in `fallback`.

    curl -X POST http://127.0.0.1:3000/recommend -H 'Content-Type: application/json' -d '{"user_id": "900", "k": 5}'

`GET /version` says what is in service. A request that breaks a rule is answered with 400 and the name of the field.
"""
_INCLUDED = ["**/*.py", "**/*.yaml", "**/*.json", "**/*.parquet", "**/*.h5", "**/*.npy", "**/*.joblib", "*.txt"]


def build_bento(package: Path, version: str) -> str:
    """Build the Bento of a package, unless it is there; return its tag. The Bento store is BENTOML_HOME."""
    import bentoml

    tag = f"{NAME}:{version}"
    with contextlib.suppress(bentoml.exceptions.NotFound):
        return str(bentoml.bentos.get(tag).tag)
    with contextlib.chdir(package):  # BentoML takes requirements only relative to the working folder
        bentoml.bentos.build(
            "serving.service:ShopLens",
            name=NAME,
            version=version,
            build_ctx=".",
            include=_INCLUDED,
            python={"requirements_txt": "requirements.txt", "lock_packages": False},
            description=_DESCRIPTION,
            labels={"project": NAME},
        )
    return tag


def export_bento(tag: str, settings: Settings, version: str) -> Path:
    """Unpack the Bento to var/service/releases/VERSION and export it as one file; return the folder."""
    import bentoml

    where = places(settings)
    release = where.releases / version
    if not release.exists():
        with whole_folder(release) as work:
            shutil.copytree(bentoml.get(tag).path, work, dirs_exist_ok=True)
            verify(package_of(work))
    exported = where.exports / f"{NAME}-{version}.bento"
    if not exported.exists():
        where.exports.mkdir(parents=True, exist_ok=True)
        partial = where.exports / f".{version}.partial.bento"
        partial.unlink(missing_ok=True)
        bentoml.export_bento(tag, str(partial))
        partial.replace(exported)
    return release


def flip(settings: Settings, release: Path) -> None:
    """Point `current` at a release, in one rename."""
    current = places(settings).current
    current.parent.mkdir(parents=True, exist_ok=True)
    new = current.with_name(f".current.{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(Path("releases") / release.name)
    new.replace(current)


def release_package(settings: Settings) -> tuple[str, bool]:
    """Put `outs/package` into service; return its version and whether anything changed.

    Raises:
        ReleaseError: the gate has not accepted this package.
    """
    package = settings.outs_dir / "package"
    version = model_version(package)
    if current_version(settings) == version:
        return version, False
    path = places(settings).verdicts / f"{version}.json"
    if not path.exists() or not read_json(path)["accepted"]:
        what = "refused" if path.exists() else "not judged"
        raise ReleaseError(f"package {version}: the gate has {what} it; run `shoplens gate` and see {path}")
    flip(settings, export_bento(build_bento(package, version), settings, version))
    return version, True


def put_into_service(settings: Settings, url: str, seconds: float) -> tuple[str, bool, float]:
    """Release `outs/package` and wait until the service at `url` is ready with it; 0 seconds: do not wait.

    Returns:
        The version, whether anything changed, and how long the service took.

    Raises:
        ReleaseError: see `release_package`; or the service does not become ready, and what was in service is again.
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
        raise ReleaseError(f"{error}; {before or 'nothing'} is in service again, see {places(settings).log}") from error


def roll_back(settings: Settings, version: str | None) -> None:
    """Point `current` at an earlier release again, or at nothing."""
    where = places(settings)
    if version is None:
        where.current.unlink(missing_ok=True)
    else:
        flip(settings, where.releases / version)


def served_version(url: str) -> str | None:
    """Return the model version that a ready service reports in /readyz; None while it is not ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310  (the address is ours)
            return answer.headers.get(VERSION_HEADER) if answer.status == 200 else None
    except (urllib.error.URLError, OSError):
        return None


def wait_ready(url: str, version: str, seconds: float) -> float:
    """Wait until the service at `url` is ready with `version`; return how long that took.

    Raises:
        ReleaseError: it is not within `seconds`.
    """
    began = time.monotonic()
    seen: str | None = None
    while time.monotonic() - began < seconds:
        seen = served_version(url)
        if seen == version:
            return time.monotonic() - began
        time.sleep(0.5)
    raise ReleaseError(f"{url}/readyz: must report version {version} within {seconds:g} s; last seen {seen!r}")
