"""Drift detection as part of a validation run: detect, report, and fail the run if configured to."""

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from expectations.drift.bands import COMPARISON_SCHEMA, Reference
from expectations.drift.page import build_page
from expectations.drift.profile import build_profile, item_categories
from expectations.drift.report import Drift, find_drift, last_complete_day
from expectations.drift.suite import KEYS, TABLE, drift_suite, failing
from expectations.validator import TableValidator, check_errors
from shoplens.errors import BrokenTableError
from shoplens.files import whole_file
from shoplens.params import DriftParams
from shoplens.settings import Settings
from shoplens.stage import console


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
    """Profile a log and compare its days.

    Args:
        events: Batches of events with the columns `expectations.drift.profile.COLUMNS`.
        items: Items, ITEM_SCHEMA.
        params: How days are compared.
        first: The first day to report on; default: the last `params.judge_days` days are reported.
        last: The last day to report on; default: the last complete day.
    """
    profile = build_profile(events, item_categories(items))
    last = last or last_complete_day(profile) or date.max
    first = first or last - timedelta(days=params.judge_days - 1)
    return find_drift(profile, Reference(params.reference_days, params.tolerance), first, last)


def run_drift_suite(drift: Drift, table: Path, validator: TableValidator, params: DriftParams) -> None:
    """Run the drift suite over the comparisons, so that they appear in Data Docs.

    Args:
        drift: The result of drift detection.
        table: The Parquet file behind the view `drift` of the validator's database; see `create_empty_table`.
        validator: Runs the suite.
        params: Determines the severity of a violation.

    Raises:
        BrokenTableError: the suite cannot be computed, or its number of violations differs from the findings.
    """
    if not drift.days:
        return
    drift.reported().write_parquet(table)
    results = validator.run(TABLE, drift_suite(fails_run=params.on_drift == "fail"), KEYS)
    check_errors(TABLE, results)
    if failing(results) != len(drift.findings):
        raise BrokenTableError(
            f"drift: Great Expectations found {failing(results)} values outside their limits, but the report has "
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
    """Fail the run if there are findings and `on_drift` is `fail`.

    Raises:
        BrokenTableError: listing the findings.
    """
    if params.on_drift == "fail" and drift.findings:
        raise BrokenTableError(
            "\n".join(drift.lines())
            + "\nCorrect the source, or accept these days: set expectations.drift.on_drift to warn, or raise tolerance"
        )
