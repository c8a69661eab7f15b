"""An oracle for reading: files through a mapping in pure Python, one row at a time, without any of the production code.

It knows what these tests use of mappings: columns, addresses, constants, event names, `each`, `items` and `csv`, files
of CSV and JSON Lines that are well formed, and times as in "2024-01-01 10:00:00".
"""

import csv
import gzip
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

CONTENT = ("event_time", "event_name", "user_id", "anonymous_id", "item_id", "attributes")


@dataclass
class Naive:
    """What the oracle read: events in order, and the counts of each file."""

    events: list[dict[str, Any]] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    quarantined: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # row and first reason


def _lines(path: Path, spec: dict[str, Any]) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in text.decode().splitlines() if line.strip()]
    options = spec.get("csv", {})
    lines = text.decode().splitlines(keepends=True)
    rows = [row for row in csv.reader(lines, delimiter=options.get("separator", ",")) if row]
    header = options.get("header") or rows.pop(0)
    return [dict(zip(header, [one or None for one in row], strict=True)) for row in rows]


def _elements(record: dict[str, Any], each: str | None) -> list[tuple[dict[str, Any], int | None]]:
    found = record.get(each) if each else None
    return [(record | {each: one}, n) for n, one in enumerate(found)] if found else [(record, None)]


def _value(record: Any, address: str) -> str | None:
    for part in address.split("."):
        record = record.get(part) if isinstance(record, dict) else None
    return None if record is None else str(record)


def _time(text: str | None) -> datetime | None:
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d"):
        try:
            return datetime.strptime(text or "", form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _event(record: dict[str, Any], spec: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return the event of a record, and the first reason why it is none."""
    columns = spec["columns"]
    event: dict[str, Any] = {name: _value(record, address) for name, address in columns.items()} | spec["constants"]
    text, event["event_time"] = event["event_time"], _time(event["event_time"])
    # A record stays an attribute, as JSON, when only a field of it is mapped.
    used = set(columns.values()) | set(spec.get("items", {}).values())
    rest = {key: one for key, one in record.items() if key not in used and one not in (None, [])}
    written = {k: json.dumps(v, separators=(",", ":")) if isinstance(v, dict) else str(v) for k, v in rest.items()}
    event["attributes"] = sorted(written.items())
    event["session_id"] = event.get("session_id")
    if event["event_time"] is None:
        return event, "event_time_not_a_time" if text else "event_time_missing"
    return event, None if event.get("user_id") or event.get("anonymous_id") else "who_missing"


def _with_sessions(events: list[dict[str, Any]]) -> None:
    last: dict[str, tuple[datetime, datetime]] = {}
    for event in sorted(events, key=lambda one: one["event_time"]):
        who = event.get("user_id") or event.get("anonymous_id")
        before, start = last.get(who, (None, None))
        if before is None or event["event_time"] - before > timedelta(minutes=30):
            start = event["event_time"]
        last[who] = (event["event_time"], start)
        event["session_id"] = event["session_id"] or f"{who}-{int(start.timestamp())}"


def read(mapping: Path, folder: Path) -> Naive:
    """Read the files of a folder through a mapping whose events have IDs of their own or are all different."""
    done, first = Naive(), {}
    for spec in yaml.safe_load(mapping.read_text())["events"]:
        for path in sorted(folder.iterdir()):
            if spec["table"] not in ("*", path.name.split(".")[0]):
                continue
            rows = [one for record in _lines(path, spec) for one in _elements(record, spec.get("each"))]
            for number, (record, nth) in enumerate(rows):
                event, reason = _event(record, spec)
                key = event.get("event_id") or json.dumps([spec["constants"], record, nth], default=str)
                same = key in first and [first[key].get(n) for n in CONTENT] == [event.get(n) for n in CONTENT]
                if reason is None and key in first and not same:
                    reason = "event_id_with_other_content"
                if reason is not None:
                    done.quarantined.setdefault(path.name, []).append((number, reason))
                elif key in first:
                    done.duplicates[path.name] += 1
                else:
                    first[key] = event
                    done.accepted[path.name] += 1
    done.events = list(first.values())
    _with_sessions(done.events)
    return done
