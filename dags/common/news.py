"""Has an Asset anything new to say? A run that changed nothing stops here.

What a consumer did depends on the digest that reached it and on the state that it left or met; both are kept when it
has acted, and compared when the next event comes. State that is missing is always news.
"""

import hashlib
import json
import os
from typing import Any
from urllib.parse import urlsplit

import yaml

from common.constants import ROOT, VAR

_FOLDER = VAR / "airflow/seen"


def digest_of(events: Any) -> str | None:
    """Return the digest that the latest of the triggering events carries; None in a run started by hand."""
    latest = [found for asset in events for found in events[asset]]
    extra = latest[-1].extra if latest else None
    return str(extra["digest"]) if extra and extra.get("digest") else None


def _store() -> str:
    """Return which online store the commands use, by kind and place; never its password."""
    kind = os.environ.get("SHOPLENS_ONLINE_STORE", "sqlite")
    if kind == "sqlite":
        return kind
    where = urlsplit(os.environ.get("SHOPLENS_REDIS_URL", "redis://127.0.0.1:6379/0"))
    return f"{kind} {where.hostname}:{where.port or 6379}{where.path}"


def store_state() -> str | None:
    """Return a digest of the store, of what it says it holds, and of the code that defines the features.

    None when a part of the store is missing.
    """
    feast, store = VAR / "feast", _store()
    needed = [feast / "state.json", feast / "registry.db"]
    if store == "sqlite":
        needed.append(feast / "online.db")
    if not all(path.exists() for path in needed):
        return None
    total = hashlib.sha256(f"{store}\0".encode())
    for path in (needed[0], *sorted((ROOT / "features").glob("*.py"))):
        total.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def service_state() -> str | None:
    """Return what a verdict depends on beside the package: the release in service and the gate's own parameters."""
    current = VAR / "service/current"
    if not current.exists():
        return None
    gate = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")).get("gate")
    return f"{current.resolve().name} {json.dumps(gate, sort_keys=True)}"


def is_new(consumer: str, digest: str | None, state: str | None) -> bool:
    """Say whether `consumer` has to act: its state is missing or another one, a person asks, or the digest is new."""
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
