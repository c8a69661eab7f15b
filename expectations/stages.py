"""The stage `validate`: outs/events to outs/validated; bad rows to quarantine, a broken table stops the run."""

import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from events.contract import QUARANTINE_SCHEMA
from events.lake.table import GroupedWriter
from expectations.data_docs import build_data_docs
from expectations.drift.profile import COLUMNS
from expectations.drift.report import Drift
from expectations.drift.run import empty_table, hold, judge_log, require_season, show
from expectations.preparation.run import prepare
from expectations.sift import Sifted, batches, sift
from expectations.validator import TableResult, TableValidator, open_tables, require_few_bad
from shoplens.digest import file_digest
from shoplens.errors import BrokenTableError
from shoplens.files import read_json, whole_folder, write_json
from shoplens.params import ExpectationsParams, Params
from shoplens.settings import Settings
from shoplens.stage import console

TABLES = ("events", "items", "users", "campaigns")


def _summary(result: TableResult, sifted: Sifted) -> dict[str, Any]:
    return {
        "rows_in": sifted.rows,
        "accepted": sifted.good,
        "quarantined": len(sifted.bad),
        "reasons": result.failed,
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


def _judge(
    source: Path, dataset: dict[str, Any], params: ExpectationsParams, settings: Settings
) -> tuple[list[TableResult], Drift]:
    """Run the suites and build Data Docs; return what was found of each table, and of its season."""
    tables = {table: source / f"{table}.parquet" for table in TABLES}
    with tempfile.TemporaryDirectory() as scratch:
        database, judged = Path(scratch) / "tables.duckdb", Path(scratch) / "drift.parquet"
        empty_table(judged)
        with open_tables(database, tables | {"drift": judged}) as context:
            validator = TableValidator(context, database)
            try:
                results = [validator.validate(table) for table in TABLES]
                events, items = batches(tables["events"], COLUMNS), pl.read_parquet(tables["items"])
                drift = judge_log(events, items, params.drift)
                hold(drift, judged, validator, params.drift)
                show(drift, str(dataset.get("source", "")), settings)
            finally:
                # A broken table is when the pages are needed most.
                console.print(f"Data Docs: {build_data_docs(context, settings)}")
    return results, drift


def _keep_good(result: TableResult, source: Path, out: Path, quarantine: GroupedWriter, share: float) -> Sifted:
    """Write the good rows of a table; a broken one stops the run, before the pass over its rows if that is plain."""
    require_few_bad(result, max(result.failed.values(), default=0), share)
    name = f"{result.table}.parquet"
    sifted = sift(source / name, out / name, result, quarantine)
    require_few_bad(result, len(sifted.bad), share)
    bad = len(sifted.bad)
    console.print(f"{result.table}: {sifted.rows:,} rows in = {sifted.good:,} accepted + {bad:,} quarantined")
    return sifted


def validate(params: Params, settings: Settings) -> None:
    """Hold every table against its suite and the events against their season; set bad rows aside, prepare the rest.

    Raises:
        BrokenTableError: a table misses a column, is empty, or has more than `expectations.max_bad_share` bad rows;
            more than that share of a source's rows could not be read; or a day is outside its season and
            `expectations.drift.on_drift` is `fail`.
        SettingsError: a step of `prepare` does not fit the tables.
    """
    source, share = settings.outs_dir / "events", params.expectations.max_bad_share
    _require_readable(read_json(source / "account.json"), share)
    dataset = read_json(source / "dataset.json")
    with whole_folder(settings.outs_dir / "validated") as out:
        results, drift = _judge(source, dataset, params.expectations, settings)
        require_season(drift, params.expectations.drift)
        quarantine = GroupedWriter(out / "quarantine.parquet", QUARANTINE_SCHEMA)
        sifted = [_keep_good(result, source, out, quarantine, share) for result in results]
        kept = dict(zip(TABLES, sifted, strict=True))
        prepared = prepare(out, params.prepare, kept, quarantine)
        quarantine.close()
        console.print("\n".join(prepared.lines()))
        write_json(out / "validation.json", {r.table: _summary(r, kept[r.table]) for r in results})
        write_json(out / "drift.json", drift.as_json())
        write_json(out / "preparation.json", prepared.report)
        events = {"rows": prepared.rows["events"], "digest": file_digest(out / "events.parquet")}
        write_json(out / "dataset.json", dataset | events)
