"""Accept the calls of another tracker, such as Segment or RudderStack, through the mapping for its files."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
from pydantic_core import from_json, to_json

from events.collector.records import NOT_AN_OBJECT, NOT_JSON, Incoming, accept, rejected
from events.contract import EVENT_SCHEMA
from events.identity import salt_of
from events.mapping import Mapping
from events.transform.records import flat_rows
from events.transform.rows import Transformer
from shoplens.errors import MappingError, SourceError

_NUMBER = "_number"  # of a record, while its rows are found
_LARGE = "large integer"
UNREADABLE = "record_not_readable"
_EXACT = 2**53  # beyond it, integers change when a neighbour's fraction makes their column one of floats


def _kinds(value: Any, address: str = "") -> Iterator[tuple[str, str]]:
    """Yield the address and type of each value: text, number, list or object; 2 and 2.0 are both numbers."""
    if isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else (("", one) for one in value):
            yield from _kinds(one, f"{address}.{name}")
    if value is not None:
        kind = "number" if type(value) in (int, float) else type(value).__name__
        yield address, _LARGE if type(value) is int and abs(value) > _EXACT else kind


def _alike(records: Sequence[dict[str, Any] | Incoming]) -> list[list[int]]:
    """Group records so that within a group each address has values of one type.

    In a column with text, numbers are read as text too, so an event's content would depend on its neighbours. A record
    that would change its neighbours in any group, because of a list of several types or a large integer, is alone.
    """
    groups: list[tuple[dict[str, str], list[int]]] = []
    alone: list[list[int]] = []
    for place, record in enumerate(records):
        if isinstance(record, Incoming):
            continue
        found = set(_kinds(record))
        kinds = dict(found)
        if len(kinds) < len(found) or _LARGE in kinds.values():
            alone.append([place])
            continue
        fitting = (one for one in groups if all(one[0].get(address, kind) == kind for address, kind in kinds.items()))
        group = next(fitting, None)
        if group is None:
            groups.append(group := ({}, []))
        group[0].update(kinds)
        group[1].append(place)
    return [places for _, places in groups] + alone


class MappedReader:
    """Maps JSON records that arrive one by one."""

    def __init__(self, mapping: Mapping) -> None:
        """Check that the mapping can read records one by one.

        Raises:
            MappingError: the mapping reads several tables of events, or joins tables.
        """
        if len(mapping.events) != 1 or mapping.events[0].joins:
            raise MappingError(
                f"mapping {mapping.name}: to read calls it must have one entry of events, without a join; it has "
                f"{len(mapping.events)}. Give `--mapping` a mapping such as events/mappings/segment.yaml"
            )
        self._mapping, self._spec = mapping, mapping.events[0]

    def parse(self, call: str, body: bytes) -> list[dict[str, Any] | Incoming]:
        """Return the records of a call, such as `track`, or of all calls in a `batch`; or the reason there are none."""
        try:
            content = from_json(body)
        except ValueError as error:
            return [rejected(body, [NOT_JSON], f"body: {error}")]
        batch = content.get("batch") if call == "batch" and isinstance(content, dict) else [content]
        if not isinstance(batch, list) or not all(isinstance(one, dict) for one in batch):
            return [rejected(body, [NOT_AN_OBJECT], "body: must be a call, or an object with a list `batch` of calls")]
        if call != "batch":
            return [{"type": call, **content}]
        shared = {"context": content["context"]} if "context" in content else {}
        return [{**shared, **one} for one in batch]

    def read(self, records: Sequence[dict[str, Any] | Incoming]) -> list[list[Incoming]]:
        """Return each record's events, or its rejection: the same as from a file of these records, IDs included."""
        found = [[one] if isinstance(one, Incoming) else [] for one in records]
        for places in _alike(records):
            for place, events in zip(places, self._read([records[place] for place in places]), strict=True):
                found[place] = events
        return found

    def _read(self, records: Sequence[Any]) -> list[list[Incoming]]:
        try:
            return self._transformed(records)
        except (MappingError, SourceError, pl.exceptions.PolarsError) as error:
            if len(records) > 1:  # one of them is not a record for this mapping
                half = len(records) // 2
                return self._read(records[:half]) + self._read(records[half:])
            return [[rejected(to_json(records[0]), [UNREADABLE], f"record: {' '.join(str(error).split())[:300]}")]]

    def _transformed(self, records: Sequence[Any]) -> list[list[Incoming]]:
        lines = b"\n".join(to_json({**record, _NUMBER: number}) for number, record in enumerate(records))
        frame = pl.read_ndjson(lines, infer_schema_length=None)
        rows = flat_rows(frame, self._spec)
        of_record = rows.frame[_NUMBER].to_list()
        rows = replace(rows, frame=rows.frame.drop(_NUMBER))
        table = Transformer(self._spec, self._mapping, salt_of(self._spec.table, 0))
        table.start_file([rows])
        (done,) = table.transform([rows], self._spec.table)
        by_row: dict[int, Incoming] = {}
        for event in done.events.select("_row", *EVENT_SCHEMA).iter_rows(named=True):
            number = event.pop("_row")
            event["attributes"] = {pair["key"]: pair["value"] for pair in event["attributes"] or ()}
            by_row[number] = accept(event)
        for number, reasons, raw in done.quarantined.select("row", "reasons", "raw").iter_rows():
            problem = f"record: breaks the rule {reasons[0]} of mapping {self._mapping.name}"
            by_row[number] = rejected(raw.encode(), reasons, problem)
        found: list[list[Incoming]] = [[] for _ in records]
        for number in sorted(by_row):
            found[of_record[number]].append(by_row[number])
        return found
