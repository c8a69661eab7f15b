"""Drift detection as part of a validation run: detect, check with Great Expectations, report, fail if configured to.

The drift suite uses Great Expectations' built-in comparison of two columns, so any context can load it without our
code. It checks that every value of every measure lies within its limits; a null limit does not apply.
"""

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import polars as pl
from great_expectations import ExpectationSuite
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.row_conditions import Column

from expectations.drift.bands import (
    COMPARISON_SCHEMA,
    DISTRIBUTIONS,
    KINDS,
    MEASURES,
    SHARES,
    VOLUMES,
    Reference,
    build_profile,
    item_categories,
)
from expectations.drift.report import Drift, build_page, find_drift, last_complete_day
from expectations.validator import TableValidator, check_errors
from shoplens.errors import BrokenTableError
from shoplens.files import whole_file
from shoplens.params import DriftParams
from shoplens.settings import Settings
from shoplens.stage import console

TABLE = "drift"
KEYS = ["day", "measure", "key"]
_WHY = {
    **dict.fromkeys(VOLUMES.values(), "The row count is in line with this weekday in the preceding weeks."),
    **dict.fromkeys(KINDS.values(), "No regular value has disappeared and no unknown value has appeared."),
    **dict.fromkeys(SHARES.values(), "The share of missing values is in line with the preceding weeks."),
    **dict.fromkeys(DISTRIBUTIONS.values(), "The distribution (stability index) is in line with the preceding weeks."),
}


def _within(measure: str, greater: str, less: str, severity: FailureSeverity) -> Any:
    return gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A=greater,
        column_B=less,
        or_equal=True,
        row_condition=Column("measure") == measure,
        severity=severity,
        meta={"measure": measure, "notes": {"format": "string", "content": [f"{measure}: {_WHY[measure]}"]}},
    )


def drift_suite(*, fails_run: bool) -> ExpectationSuite:
    """Return the suite for a table of COMPARISON_SCHEMA; violations are critical if they fail the run."""
    severity = FailureSeverity.CRITICAL if fails_run else FailureSeverity.WARNING
    limits = (("value", "low"), ("high", "value"))
    expectations = [_within(measure, *pair, severity) for measure in MEASURES for pair in limits]
    return ExpectationSuite(TABLE, expectations=expectations)


def create_empty_table(path: Path) -> None:
    """Write an empty comparison table, so that a view of it can be created before it has rows."""
    pl.DataFrame(schema=COMPARISON_SCHEMA).write_parquet(path)


def drift_page(settings: Settings) -> Path:
    """Return the path of the drift report; it exists once a validation has run on this machine."""
    return settings.var_dir / "drift" / "index.html"


def detect_drift(
    events: Iterable[pl.DataFrame],
    items: pl.DataFrame,
    params: DriftParams,
    first: date | None = None,
    last: date | None = None,
) -> Drift:
    """Profile batches of events (`expectations.drift.bands.COLUMNS`) and compare their days.

    The report is on the days from `first` to `last`; default: the last `params.judge_days` complete days.
    """
    profile = build_profile(events, item_categories(items))
    last = last or last_complete_day(profile) or date.max
    first = first or last - timedelta(days=params.judge_days - 1)
    return find_drift(profile, Reference(params.reference_days, params.tolerance), first, last)


def run_drift_suite(drift: Drift, table: Path, validator: TableValidator, params: DriftParams) -> None:
    """Run the drift suite over the comparisons, so that they appear in Data Docs.

    `table` is the Parquet file behind the view `drift` of the validator's database; see `create_empty_table`.

    Raises:
        BrokenTableError: the suite cannot be computed, or its number of violations differs from the findings.
    """
    if not drift.days:
        return
    drift.reported().write_parquet(table)
    results = validator.run(TABLE, drift_suite(fails_run=params.on_drift == "fail"), KEYS)
    check_errors(TABLE, results)
    # No value is counted twice: it cannot violate both limits.
    outside = sum(int(result.result.get("unexpected_count") or 0) for result in results)
    if outside != len(drift.findings):
        raise BrokenTableError(
            f"drift: Great Expectations found {outside} values outside their limits, but the report has "
            f"{len(drift.findings)}. This is a bug: please report it with the version of great-expectations"
        )


def report_drift(drift: Drift, source: str, settings: Settings) -> None:
    """Print the findings and write the HTML report."""
    for line in drift.lines():
        console.print(line)
    if drift.comparisons.is_empty():
        return
    page = drift_page(settings)
    with whole_file(page) as work:
        work.write_text(build_page(drift, source), encoding="utf-8")
    console.print(f"drift report: {page}")


def require_no_drift(drift: Drift, params: DriftParams) -> None:
    """Raise a BrokenTableError that lists the findings, if there are any and `on_drift` is `fail`."""
    if params.on_drift == "fail" and drift.findings:
        raise BrokenTableError(
            "\n".join(drift.lines())
            + "\nCorrect the source, or accept these days: set expectations.drift.on_drift to warn, or raise tolerance"
        )
