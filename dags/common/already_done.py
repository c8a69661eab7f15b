"""Whether an Asset event calls for action: a run that would change nothing stops early.

The result of a run depends on the digest that the event carries and on the state that the run finds or leaves. Both are
kept after a run and compared when the next event comes. Missing state always calls for action.
"""

import json
from typing import Any

import yaml

from common.constants import ROOT, VAR

_FOLDER = VAR / "airflow/seen"


def digest_of(events: Any) -> str | None:
    """Return the digest that the latest of the triggering events carries; None in a run started by hand."""
    latest = [found for asset in events for found in events[asset]]
    extra = latest[-1].extra if latest else None
    return str(extra["digest"]) if extra and extra.get("digest") else None


def service_state() -> str | None:
    """Return what a verdict depends on besides the package: the release in service and the gate's parameters."""
    current = VAR / "service/current"
    if not current.exists():
        return None
    gate = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")).get("gate")
    return f"{current.resolve().name} {json.dumps(gate, sort_keys=True)}"


def is_new(consumer: str, digest: str | None, state: str | None) -> bool:
    """Return whether `consumer` has to act: state missing or changed, triggered by a person, or a new digest."""
    if digest is None or state is None:
        return True
    path = _FOLDER / f"{consumer}.json"
    return not path.exists() or json.loads(path.read_text(encoding="utf-8")) != {"digest": digest, "state": state}


def remember(consumer: str, digest: str | None, state: str | None) -> None:
    """Keep what `consumer` has acted on, after it has."""
    if digest is None or state is None:
        return
    _FOLDER.mkdir(parents=True, exist_ok=True)
    work = _FOLDER / f".{consumer}.tmp"
    work.write_text(json.dumps({"digest": digest, "state": state}), encoding="utf-8")
    work.replace(_FOLDER / f"{consumer}.json")
