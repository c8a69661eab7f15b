"""The stage `validate`: from outs/events to outs/validated. Bad rows are quarantined; a broken table fails the run.

Drift is checked with a suite, too: Great Expectations' built-in comparison of two columns, so any context can load it
without our code. It checks that every value of every measure lies within its limits; a null limit does not apply.
"""

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import polars as pl
from great_expectations import ExpectationSuite
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.row_conditions import Column

from events.contract import QUARANTINE_SCHEMA
from events.parquet import GroupedWriter
from expectations import drift as seasons
from expectations.drift_report import Drift, build_page, find_drift, last_complete_day
from expectations.preparation import prepare
from expectations.quarantine import RowSplit, read_batches, split_rows
from expectations.validator import (
    TableResult,
    TableValidator,
    build_data_docs,
    check_errors,
    open_tables,
    require_few_bad,
)
from shoplens.errors import BrokenTableError
from shoplens.files import file_digest, read_json, whole_file, whole_folder, write_json
from shoplens.params import DriftParams, ExpectationsParams, Params
from shoplens.settings import Settings
from shoplens.stage import console

TABLES = ("events", "items", "users", "campaigns")
_PROMOTIONS = "promotions.parquet"  # complete when it is read: nothing is left to expect of it
_WHY = {
    **dict.fromkeys(seasons.VOLUMES.values(), "The row count is in line with this weekday in the preceding weeks."),
    **dict.fromkeys(seasons.KINDS.values(), "No regular value has disappeared and no unknown value has appeared."),
    **dict.fromkeys(seasons.SHARES.values(), "The share of missing values is in line with the preceding weeks."),
    **dict.fromkeys(
        seasons.DISTRIBUTIONS.values(), "The distribution (stability index) is in line with the preceding weeks."
    ),
}


def drift_page(settings: Settings) -> Path:
    """Return the path of the drift report; it exists once a validation has run on this machine."""
    return settings.var_dir / "drift" / "index.html"


def _drift_suite(params: DriftParams) -> ExpectationSuite:
    """Return the suite for a table of COMPARISON_SCHEMA; violations are critical if they fail the run."""
    expectations = [
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A=greater,
            column_B=less,
            or_equal=True,
            row_condition=Column("measure") == measure,
            severity=FailureSeverity.CRITICAL if params.on_drift == "fail" else FailureSeverity.WARNING,
            meta={"measure": measure, "notes": {"format": "string", "content": [f"{measure}: {_WHY[measure]}"]}},
        )
        for measure in seasons.MEASURES
        for greater, less in (("value", "low"), ("high", "value"))
    ]
    return ExpectationSuite("drift", expectations=expectations)


def _check_drift(drift: Drift, validator: TableValidator, params: DriftParams) -> None:
    """Run the drift suite, so that the comparisons appear in Data Docs; its violations must be the findings."""
    results = validator.run("drift", _drift_suite(params), ["day", "measure", "key"])
    check_errors("drift", results)
    # No value is counted twice: it cannot violate both limits.
    outside = sum(int(result.result.get("unexpected_count") or 0) for result in results)
    if outside != len(drift.findings):
        raise BrokenTableError(
            f"drift: Great Expectations found {outside} values outside their limits, but the report has "
            f"{len(drift.findings)}. This is a bug: please report it with the version of great-expectations"
        )


def _report_drift(drift: Drift, source: str, settings: Settings) -> None:
    """Print the findings and write the HTML report."""
    console.print("\n".join(drift.lines()))
    if not drift.comparisons.is_empty():
        with whole_file(drift_page(settings)) as work:
            work.write_text(build_page(drift, source), encoding="utf-8")
        console.print(f"drift report: {drift_page(settings)}")


def run_suites(
    tables: Mapping[str, Sequence[Path]],
    events: Iterable[pl.DataFrame],
    source: str,
    params: ExpectationsParams,
    settings: Settings,
    first: date | None = None,
    last: date | None = None,
) -> tuple[list[TableResult], Drift]:
    """Run the suites of all tables, detect drift, and write Data Docs and the drift report.

    Args:
        tables: The Parquet files of each table.
        events: The events to profile, in batches (`seasons.COLUMNS`).
        source: Description of the data, for the drift report.
        params: The limits.
        settings: Settings, which name the folder for the pages.
        first: The first day that the drift report covers; default: of the last `params.drift.judge_days` days.
        last: The last such day; default: the last complete day.

    Raises:
        BrokenTableError: a table is broken, an expectation cannot be computed, or two counts of bad values differ.
    """
    with tempfile.TemporaryDirectory() as scratch:
        database, comparisons = Path(scratch) / "tables.duckdb", Path(scratch) / "drift.parquet"
        pl.DataFrame(schema=seasons.COMPARISON_SCHEMA).write_parquet(comparisons)  # a view needs a file
        with open_tables(database, {**tables, "drift": [comparisons]}) as context:
            validator = TableValidator(context, database)
            try:
                results = [validator.validate(table) for table in tables]
                categories = seasons.item_categories(pl.read_parquet(tables["items"][0]))
                profile = seasons.build_profile(events, categories)
                last = last or last_complete_day(profile) or date.max
                first = first or last - timedelta(days=params.drift.judge_days - 1)
                reference = seasons.Reference(params.drift.reference_days, params.drift.tolerance)
                drift = find_drift(profile, reference, first, last)
                if drift.days:
                    drift.reported().write_parquet(comparisons)
                    _check_drift(drift, validator, params.drift)
                _report_drift(drift, source, settings)
            finally:
                # Also after a failure: that is when the pages are needed most.
                console.print(f"Data Docs: {build_data_docs(context, settings)}")
    return results, drift


def require_no_drift(drift: Drift, params: DriftParams) -> None:
    """Raise a BrokenTableError that lists the findings, if there are any and `on_drift` is `fail`."""
    if params.on_drift == "fail" and drift.findings:
        raise BrokenTableError(
            "\n".join(drift.lines())
            + "\nCorrect the source, or accept these days: set expectations.drift.on_drift to warn, or raise tolerance"
        )


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


def _write_accepted(result: TableResult, source: Path, out: Path, quarantine: GroupedWriter, share: float) -> RowSplit:
    """Write the accepted rows of a table and quarantine the others; raise if too many are bad."""
    require_few_bad(result, max(result.failed.values(), default=0), share)  # fails early, before the rows are read
    name = f"{result.table}.parquet"
    split = split_rows(source / name, out / name, result, quarantine)
    bad = len(split.bad)
    require_few_bad(result, bad, share)
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
    tables = {table: [source / f"{table}.parquet"] for table in TABLES}
    events = read_batches(tables["events"][0], seasons.COLUMNS)
    with whole_folder(settings.outs_dir / "validated") as out:
        results, drift = run_suites(tables, events, str(dataset.get("source", "")), params.expectations, settings)
        require_no_drift(drift, params.expectations.drift)
        with GroupedWriter(out / "quarantine.parquet", QUARANTINE_SCHEMA) as quarantine:
            splits = {r.table: _write_accepted(r, source, out, quarantine, share) for r in results}
            prepared = prepare(out, params.prepare, splits, quarantine)
        console.print("\n".join(prepared.lines()))
        shutil.copyfile(source / _PROMOTIONS, out / _PROMOTIONS)
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
        events_digest = {
            "rows": prepared.report["accounts"]["events"]["rows_out"],
            "digest": file_digest(out / "events.parquet"),
        }
        write_json(out / "dataset.json", dataset | events_digest)
