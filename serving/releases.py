"""Releases on disk: one unchanging folder a version, and one pointer to the version in service."""

import os
import shutil
from pathlib import Path

from shoplens.digest import folder_digest
from shoplens.errors import ReleaseError
from shoplens.files import whole_folder
from shoplens.settings import Settings

_VERSION_DIGITS = 16


def package_version(package: Path) -> str:
    """Return the model version of a package: the first 16 hexadecimal digits of its folder's digest.

    Raises:
        ReleaseError: the folder holds no `manifest.json`.
    """
    if not (package / "manifest.json").is_file():
        raise ReleaseError(f"package {package}: must hold manifest.json; run `shoplens stage package`")
    return folder_digest(package)[:_VERSION_DIGITS]


def service_dir(settings: Settings) -> Path:
    """Return the folder of releases, verdicts and the pointer to the version in service."""
    return settings.var_dir / "service"


def current_release(settings: Settings) -> Path | None:
    """Return the folder of the release in service, or None when there is none."""
    pointer = service_dir(settings) / "current"
    return pointer.resolve() if pointer.is_dir() else None


def install(package: Path, settings: Settings) -> Path:
    """Copy a package to its place among the releases, whole or not at all; one that is there is left as it is.

    Raises:
        ReleaseError: the release on disk no longer has the content that its name states.
    """
    version = package_version(package)
    release = service_dir(settings) / "releases" / version
    if not release.exists():
        with whole_folder(release) as work:
            shutil.copytree(package, work, dirs_exist_ok=True)
    if package_version(release) != version:
        raise ReleaseError(f"release {release}: its content must have digest {version}; remove it and release again")
    return release


def put_into_service(release: Path, settings: Settings) -> bool:
    """Point `current` at a release by rename: readers see the old one or the new one. Return whether it changed."""
    pointer = service_dir(settings) / "current"
    if current_release(settings) == release.resolve():
        return False
    work = pointer.with_name(f".current.{os.getpid()}.tmp")
    work.unlink(missing_ok=True)
    work.symlink_to(Path("releases") / release.name)
    work.replace(pointer)
    return True
