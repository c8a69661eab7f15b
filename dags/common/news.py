"""Has an Asset anything new to say? A run that changed nothing stops here."""

import json
from pathlib import Path
from typing import Any

from common.constants import VAR

_FOLDER = VAR / "airflow/seen"


def digest_of(events: Any) -> str | None:
    """Return the digest that the latest of the triggering events carries; None in a run started by hand."""
    latest = [found for asset in events for found in events[asset]]
    extra = latest[-1].extra if latest else None
    return str(extra["digest"]) if extra and extra.get("digest") else None


def is_new(consumer: str, digest: str | None, state: Path) -> bool:
    """Say whether `consumer` has to act: its state is missing, a person asks, or the digest is another one."""
    if digest is None or not state.exists():
        return True
    path = _FOLDER / f"{consumer}.json"
    return not path.exists() or json.loads(path.read_text(encoding="utf-8"))["digest"] != digest


def remember(consumer: str, digest: str | None) -> None:
    """Keep what `consumer` has acted on, after it has."""
    if digest is None:
        return
    _FOLDER.mkdir(parents=True, exist_ok=True)
    work = _FOLDER / f".{consumer}.tmp"
    work.write_text(json.dumps({"digest": digest}), encoding="utf-8")
    work.replace(_FOLDER / f"{consumer}.json")
