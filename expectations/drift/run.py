"""Judging a log, showing what was found, and stopping the run where that is asked for."""

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from expectations.drift.bands import JUDGED_SCHEMA, Reference
from expectations.drift.page import build_page
from expectations.drift.profile import build_profile, item_categories
from expectations.drift.report import Drift, find_drift, last_finished_day
from expectations.drift.suite import KEYS, TABLE, drift_suite, failing
from expectations.validator import TableValidator, check_errors
from shoplens.errors import BrokenTableError
from shoplens.files import whole_file
from shoplens.params import DriftParams
from shoplens.settings import Settings
from shoplens.stage import console


def empty_table(path: Path) -> None:
    """Write the table of what is judged without rows, so that a view of it can be made before it is filled."""
    pl.DataFrame(schema=JUDGED_SCHEMA).write_parquet(path)


def drift_page(settings: Settings) -> Path:
    """Return the page to look at; it exists after a validation on this machine."""
    return settings.var_dir / "drift" / "index.html"


def judge_log(
    events: Iterable[pl.DataFrame],
    items: pl.DataFrame,
    params: DriftParams,
    first: date | None = None,
    last: date | None = None,
) -> Drift:
    """Count a log and compare its days.

    Args:
        events: The columns of `expectations.drift.profile.COLUMNS`, in pieces.
        items: To ITEM_SCHEMA.
        params: How days are compared.
        first: The first day to answer for; None: that of the last `params.judge_days`.
        last: The last one; None: the last one that has ended.
    """
    profile = build_profile(events, item_categories(items))
    last = last or last_finished_day(profile) or date.max
    first = first or last - timedelta(days=params.judge_days - 1)
    return find_drift(profile, Reference(params.reference_days, params.tolerance), first, last)


def hold(drift: Drift, table: Path, validator: TableValidator, params: DriftParams) -> None:
    """Run the suite of drift over what was judged, so that Data Docs have it.

    Args:
        drift: What was judged.
        table: The Parquet file behind the view `drift` of the validator's database; see `empty_table`.
        validator: Where the suite is run.
        params: How serious it is.

    Raises:
        BrokenTableError: the suite cannot be computed, or does not find what was found.
    """
    if not drift.days:
        return
    drift.of_days().write_parquet(table)
    results = validator.run(TABLE, drift_suite(stops=params.on_drift == "fail"), KEYS)
    check_errors(TABLE, results)
    if failing(results) != len(drift.findings):
        raise BrokenTableError(
            f"drift: Great Expectations finds {failing(results)} values outside their limits, the report "
            f"{len(drift.findings)}: this is a bug, report it with the version of great-expectations"
        )


def show(drift: Drift, source: str, settings: Settings) -> None:
    """Print what was found and draw the page."""
    for line in drift.lines():
        console.print(line)
    if drift.judged.is_empty():
        return
    page = drift_page(settings)
    with whole_file(page) as work:
        work.write_text(build_page(drift, source), encoding="utf-8")
    console.print(f"drift, drawn: {page}")


def require_season(drift: Drift, params: DriftParams) -> None:
    """Stop the run for a day outside its season, where `on_drift` says so.

    Raises:
        BrokenTableError: naming what was found.
    """
    if params.on_drift == "fail" and drift.findings:
        raise BrokenTableError(
            "\n".join(drift.lines())
            + "\nCorrect the source; or accept these days with expectations.drift.on_drift: warn, or a wider tolerance"
        )
