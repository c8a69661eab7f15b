"""Where the state of the service lives, below `var/service`."""

from dataclasses import dataclass
from pathlib import Path

from shoplens.settings import Settings


@dataclass(frozen=True)
class Places:
    """Folders and files of the service."""

    releases: Path
    current: Path
    verdicts: Path
    exports: Path
    status: Path
    log: Path


def places(settings: Settings) -> Places:
    """Return the places of this project."""
    var = settings.var_dir
    service = var / "service"
    return Places(
        service / "releases",
        service / "current",
        service / "verdicts",
        service / "exports",
        var / "run/service.json",
        var / "run/service.log",
    )


def package_of(release: Path) -> Path:
    """Return the package inside a release: an unpacked Bento keeps it in src."""
    return release / "src"


def current_version(settings: Settings) -> str | None:
    """Return the version in service, or None before the first release."""
    current = places(settings).current
    return current.resolve().name if current.exists() else None
