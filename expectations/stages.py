"""The stage `validate`: outs/events to outs/validated; bad rows to quarantine, a broken table stops the run."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from events.contract import QUARANTINE_SCHEMA
from expectations.data_docs import build_data_docs
from expectations.validator import TableResult, TableValidator, open_tables, require_few_bad
from shoplens.digest import file_digest
from shoplens.errors import BrokenTableError
from shoplens.files import read_json, whole_folder, write_json
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console

TABLES = ("events", "items", "users", "campaigns")


def _quarantine(table: str, frame: pl.DataFrame, bad: dict[int, list[str]]) -> pl.DataFrame:
    rows = frame[list(bad)]
    return pl.DataFrame(
        {
            "table": [table] * len(bad),
            "row": list(bad),
            "reasons": list(bad.values()),
            "raw": rows.select(pl.struct(pl.all()).struct.json_encode()).to_series(),
        },
        schema=QUARANTINE_SCHEMA,
    )


def _keep_good(source: Path, out: Path, result: TableResult, max_bad_share: float) -> pl.DataFrame:
    """Write the good rows of a table; return the bad ones for quarantine."""
    name = f"{result.table}.parquet"
    if not result.failed:
        shutil.copyfile(source / name, out / name)
        return pl.DataFrame(schema=QUARANTINE_SCHEMA)
    frame = pl.read_parquet(source / name)
    require_few_bad(result, frame, max_bad_share)
    bad = result.bad_rows()
    set_aside = _quarantine(result.table, frame, bad)
    good = frame.with_row_index("_row").filter(~pl.col("_row").is_in(list(bad))).drop("_row")
    good.write_parquet(out / name, row_group_size=1 << 17)
    return set_aside


def _summary(result: TableResult) -> dict[str, Any]:
    bad = len(result.bad_rows())
    return {
        "rows_in": result.rows,
        "accepted": result.rows - bad,
        "quarantined": bad,
        "reasons": {reason: len(rows) for reason, rows in result.failed.items()},
        "expectations": [f"{kind}({column}): {count} fail" for kind, column, count in result.expectations],
    }


def _require_readable(account: dict[str, Any], max_bad_share: float) -> None:
    """Stop the run when more than a set share of a source's rows could not be read.

    Rows that the mapping itself turns away (`reject`) are not among them.
    """
    for table, counts in account["tables"].items():
        reasons = {r: n for r, n in counts["quarantined"].items() if r not in account["declared_reasons"]}
        bad = sum(reasons.values())
        if bad > max_bad_share * counts["rows_in"]:
            worst = max(reasons, key=lambda reason: reasons[reason])
            raise BrokenTableError(
                f"table {table}: {bad:,} of {counts['rows_in']:,} rows could not be read, more than "
                f"expectations.max_bad_share {max_bad_share:g}; most: {worst}, {reasons[worst]:,} rows, see "
                f"outs/events/quarantine.parquet. Correct the mapping, or name what may be lost under `reject`"
            )


def validate(params: Params, settings: Settings) -> None:
    """Hold every table against its suite.

    Raises:
        BrokenTableError: a table misses a column, is empty, or has more than `expectations.max_bad_share` bad rows;
            or more than that share of a source's rows could not be read.
    """
    source = settings.outs_dir / "events"
    _require_readable(read_json(source / "account.json"), params.expectations.max_bad_share)
    tables = {table: source / f"{table}.parquet" for table in TABLES}
    with whole_folder(settings.outs_dir / "validated") as out, tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch) / "tables.duckdb"
        with open_tables(database, tables) as context:
            validator = TableValidator(context, database)
            try:
                results = [validator.validate(table) for table in TABLES]
            finally:
                # A broken table is when the pages are needed most.
                page = build_data_docs(context, settings)
        set_aside = [_keep_good(source, out, result, params.expectations.max_bad_share) for result in results]
        for result in results:
            bad = len(result.bad_rows())
            console.print(
                f"{result.table}: {result.rows:,} rows in = {result.rows - bad:,} accepted + {bad:,} quarantined"
            )
        pl.concat(set_aside).write_parquet(out / "quarantine.parquet")
        write_json(out / "validation.json", {result.table: _summary(result) for result in results})
        dataset = read_json(source / "dataset.json")
        events = results[0]
        dataset |= {
            "rows": events.rows - len(events.bad_rows()),
            "digest": file_digest(out / "events.parquet"),
        }
        write_json(out / "dataset.json", dataset)
    console.print(f"Data Docs: {page}")
