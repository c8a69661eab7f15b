"""Decide whether an Asset event requires action, so that a run without effect stops early.

The result of a run depends on the digest in the event and on the state that the run finds or leaves. Both are stored
after a run and compared at the next event. Missing state always requires action.
"""

import json
from typing import Any

import yaml

from common.constants import ROOT, VAR

_FOLDER = VAR / "airflow/seen"


def digest_of(events: Any) -> str | None:
    """Return the digest in the latest triggering event; None for a manual run."""
    latest = [found for asset in events for found in events[asset]]
    extra = latest[-1].extra if latest else None
    return str(extra["digest"]) if extra and extra.get("digest") else None


def service_state() -> str | None:
    """Return the other inputs of a verdict, besides the package: the release in service and the gate's parameters."""
    current = VAR / "service/current"
    if not current.exists():
        return None
    gate = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")).get("gate")
    return f"{current.resolve().name} {json.dumps(gate, sort_keys=True)}"


def is_new(consumer: str, digest: str | None, state: str | None) -> bool:
    """Return whether `consumer` must act: the state is missing or changed, the run is manual, or the digest is new."""
    if digest is None or state is None:
        return True
    path = _FOLDER / f"{consumer}.json"
    return not path.exists() or json.loads(path.read_text(encoding="utf-8")) != {"digest": digest, "state": state}


def remember(consumer: str, digest: str | None, state: str | None) -> None:
    """Record what `consumer` acted on, after it succeeded."""
    if digest is None or state is None:
        return
    _FOLDER.mkdir(parents=True, exist_ok=True)
    work = _FOLDER / f".{consumer}.tmp"
    work.write_text(json.dumps({"digest": digest, "state": state}), encoding="utf-8")
    work.replace(_FOLDER / f"{consumer}.json")
