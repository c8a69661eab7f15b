"""The row expectations of a suite, compiled to Polars expressions for batches of rows and for live events.

Great Expectations counts the failing rows of a table, but identifying them costs one Python object per row, and it
cannot check a live event. The suite remains the only definition: its expectation objects are compiled, and one without
a translation raises before any row is checked. Uniqueness cannot be checked one row at a time; `unique_columns` lists
the columns that require it.
"""

import operator
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import polars as pl

from shoplens.errors import SettingsError

_UNIQUE = "expect_column_values_to_be_unique"
_BOTH_MISSING = "both_values_are_missing"

Translation = Callable[[Any], pl.Expr]  # expectation -> true for a row that fails it, null if it does not apply


def _is_outside(expectation: Any) -> pl.Expr:
    value, low, high = pl.col(expectation.column), expectation.min_value, expectation.max_value
    fails = []
    if low is not None:
        fails.append(value <= low if expectation.strict_min else value < low)
    if high is not None:
        fails.append(value >= high if expectation.strict_max else value > high)
    return pl.any_horizontal(fails)


def _is_not_greater(expectation: Any) -> pl.Expr:
    if expectation.ignore_row_if != _BOTH_MISSING:
        raise _unknown(expectation, f"ignore_row_if {expectation.ignore_row_if!r}")
    first, second = pl.col(expectation.column_A), pl.col(expectation.column_B)
    return first < second if expectation.or_equal else first <= second


_TRANSLATIONS: dict[str, Translation] = {
    "expect_column_values_to_not_be_null": lambda expectation: pl.col(expectation.column).is_null(),
    "expect_column_values_to_be_between": _is_outside,
    "expect_column_values_to_be_in_set": lambda expectation: (
        ~pl.col(expectation.column).is_in(list(expectation.value_set))
    ),
    "expect_column_pair_values_a_to_be_greater_than_b": _is_not_greater,
}

_COMPARISONS: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "IN": lambda column, value: column.is_in(list(value)),
    "NOT_IN": lambda column, value: ~column.is_in(list(value)),
}


def _unknown(expectation: Any, what: str) -> SettingsError:
    return SettingsError(
        f"suite: {expectation.expectation_type} with {what} cannot be checked on single rows. Add a translation to "
        f"expectations/row_rules.py, or express the rule with one of {', '.join(sorted(_TRANSLATIONS))}"
    )


def _holds(condition: Any) -> pl.Expr | None:
    """Return where a row condition holds; None for a kind that has no translation."""
    kind = getattr(condition, "type", None)
    if kind == "and":
        parts = [_holds(part) for part in condition.conditions]
        return None if any(part is None for part in parts) else pl.all_horizontal(parts)
    if kind == "comparison" and condition.operator in _COMPARISONS:
        return _COMPARISONS[condition.operator](pl.col(condition.column.name), condition.parameter)
    if kind == "nullity":
        column = pl.col(condition.column.name)
        return column.is_null() if condition.is_null else column.is_not_null()
    return None


def _where(expectation: Any) -> pl.Expr | None:
    """Return the row condition of an expectation, null counting as false; None if it applies to all rows."""
    if expectation.row_condition is None:
        return None
    found = _holds(expectation.row_condition)
    if found is None:
        raise _unknown(expectation, f"row_condition {expectation.row_condition!r}")
    return found


def _fails(expectation: Any) -> pl.Expr:
    kind = expectation.expectation_type
    if kind not in _TRANSLATIONS:
        raise _unknown(expectation, f"type {type(expectation).__name__}")
    if expectation.mostly != 1:
        raise _unknown(expectation, f"mostly {expectation.mostly}")
    fails = _TRANSLATIONS[kind](expectation)
    where = _where(expectation)
    return (fails if where is None else fails & where).fill_null(value=False)


def compile_rules(expectations: Iterable[Any]) -> dict[str, pl.Expr]:
    """Return reason -> expression that is true for a row that fails, sorted by reason.

    Expectations without a reason apply to the table and are skipped, as is uniqueness.

    Raises:
        SettingsError: the type or an argument of an expectation has no translation.
    """
    rules: dict[str, pl.Expr] = {}
    for expectation in expectations:
        reason = (expectation.meta or {}).get("reason")
        if reason is None or expectation.expectation_type == _UNIQUE:
            continue
        fails = _fails(expectation)
        rules[reason] = rules[reason] | fails if reason in rules else fails
    return dict(sorted(rules.items()))


def unique_columns(expectations: Iterable[Any]) -> dict[str, str]:
    """Return reason -> column whose values must be unique."""
    return {e.meta["reason"]: e.column for e in expectations if e.meta and e.expectation_type == _UNIQUE}


def reasons_of(rules: dict[str, pl.Expr]) -> pl.Expr:
    """Return the reasons of the rules that are true for each row, List(String), in order; null counts as false."""
    if not rules:
        return pl.lit([], dtype=pl.List(pl.String))
    return pl.concat_list([pl.when(fails).then(pl.lit(reason)) for reason, fails in rules.items()]).list.drop_nulls()


@cache
def event_rules() -> dict[str, pl.Expr]:
    """Return the compiled rules for events; the first call imports Great Expectations, which takes seconds."""
    from expectations.suites import build_suites

    return compile_rules(build_suites()["events"].expectations)


def failing_reasons(events: pl.DataFrame) -> pl.Series:
    """Return the sorted reasons to quarantine each event (EVENT_SCHEMA), List(String); an empty list accepts it."""
    return events.select(reasons_of(event_rules()).alias("reasons")).to_series()
