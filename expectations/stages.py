"""The stage `validate`: from outs/events to outs/validated. Bad rows are quarantined; a broken table fails the run."""

import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from events.contract import QUARANTINE_SCHEMA
from events.parquet import GroupedWriter
from expectations.drift.bands import COLUMNS
from expectations.drift.report import Drift
from expectations.drift.run import create_empty_table, detect_drift, report_drift, require_no_drift, run_drift_suite
from expectations.preparation import prepare
from expectations.quarantine import RowSplit, read_batches, split_rows
from expectations.validator import TableResult, TableValidator, build_data_docs, open_tables, require_few_bad
from shoplens.errors import BrokenTableError
from shoplens.files import file_digest, read_json, whole_folder, write_json
from shoplens.params import ExpectationsParams, Params
from shoplens.settings import Settings
from shoplens.stage import console

TABLES = ("events", "items", "users", "campaigns")


def _require_readable(account: dict[str, Any], max_bad_share: float) -> None:
    """Fail the run if too many rows of the source could not be read; rows that the mapping rejects do not count."""
    for table, counts in account["tables"].items():
        reasons = {r: n for r, n in counts["quarantined"].items() if r not in account["declared_reasons"]}
        bad = sum(reasons.values())
        if bad > max_bad_share * counts["rows_in"]:
            worst = max(reasons, key=lambda reason: reasons[reason])
            raise BrokenTableError(
                f"table {table}: {bad:,} of {counts['rows_in']:,} rows could not be read, more than "
                f"expectations.max_bad_share {max_bad_share:g}. Most frequent: {worst}, {reasons[worst]:,} rows; "
                f"see outs/events/quarantine.parquet. Correct the mapping, or list rows to discard under its `reject`"
            )


def _run_suites(
    source: Path, dataset: dict[str, Any], params: ExpectationsParams, settings: Settings
) -> tuple[list[TableResult], Drift]:
    """Run all suites, detect drift and build Data Docs."""
    tables = {table: source / f"{table}.parquet" for table in TABLES}
    with tempfile.TemporaryDirectory() as scratch:
        database, comparisons = Path(scratch) / "tables.duckdb", Path(scratch) / "drift.parquet"
        create_empty_table(comparisons)
        with open_tables(database, tables | {"drift": comparisons}) as context:
            validator = TableValidator(context, database)
            try:
                results = [validator.validate(table) for table in TABLES]
                events, items = read_batches(tables["events"], COLUMNS), pl.read_parquet(tables["items"])
                drift = detect_drift(events, items, params.drift)
                run_drift_suite(drift, comparisons, validator, params.drift)
                report_drift(drift, str(dataset.get("source", "")), settings)
            finally:
                # Also after a failure: that is when the pages are needed most.
                console.print(f"Data Docs: {build_data_docs(context, settings)}")
    return results, drift


def _write_accepted(result: TableResult, source: Path, out: Path, quarantine: GroupedWriter, share: float) -> RowSplit:
    """Write the accepted rows of a table and quarantine the others; raise if too many are bad."""
    require_few_bad(result, max(result.failed.values(), default=0), share)  # fails early, before the rows are read
    name = f"{result.table}.parquet"
    split = split_rows(source / name, out / name, result, quarantine)
    require_few_bad(result, len(split.bad), share)
    bad = len(split.bad)
    console.print(f"{result.table}: {split.rows:,} rows in = {split.good:,} accepted + {bad:,} quarantined")
    return split


def validate(params: Params, settings: Settings) -> None:
    """Validate every table, check the events for drift, quarantine bad rows and prepare the others.

    Raises:
        BrokenTableError: a table lacks a column, is empty, or has more than `expectations.max_bad_share` bad rows; more
            than that share of the source's rows could not be read; or drift was found and
            `expectations.drift.on_drift` is `fail`.
        SettingsError: a step of `prepare` does not suit the tables.
    """
    source, share = settings.outs_dir / "events", params.expectations.max_bad_share
    _require_readable(read_json(source / "account.json"), share)
    dataset = read_json(source / "dataset.json")
    with whole_folder(settings.outs_dir / "validated") as out:
        results, drift = _run_suites(source, dataset, params.expectations, settings)
        require_no_drift(drift, params.expectations.drift)
        quarantine = GroupedWriter(out / "quarantine.parquet", QUARANTINE_SCHEMA)
        splits = {r.table: _write_accepted(r, source, out, quarantine, share) for r in results}
        prepared = prepare(out, params.prepare, splits, quarantine)
        quarantine.close()
        console.print("\n".join(prepared.lines()))
        summary = {
            result.table: {
                "rows_in": splits[result.table].rows,
                "accepted": splits[result.table].good,
                "quarantined": len(splits[result.table].bad),
                "reasons": result.failed,
                "expectations": [f"{kind}({column}): {count} fail" for kind, column, count in result.expectations],
            }
            for result in results
        }
        write_json(out / "validation.json", summary)
        write_json(out / "drift.json", drift.as_json())
        write_json(out / "preparation.json", prepared.report)
        events = {"rows": prepared.rows["events"], "digest": file_digest(out / "events.parquet")}
        write_json(out / "dataset.json", dataset | events)
