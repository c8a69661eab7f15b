"""The row expectations of the events' suite as one check over a Polars frame, for events that have just arrived.

Great Expectations validates tables; an event that has just arrived cannot wait for it. The suite stays the one
definition: its own expectation objects are walked and turned into Polars expressions, and a kind that has no
translation here raises before the first event is judged. Whether an id is unique only the stores can tell.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import polars as pl

from shoplens.errors import SettingsError

_LEFT_TO_STORES = "expect_column_values_to_be_unique"
_BOTH_MISSING = "both_values_are_missing"

Translation = Callable[[Any], pl.Expr]  # an expectation -> true where a row fails it, null where it does not apply


def _is_null(expectation: Any) -> pl.Expr:
    return pl.col(expectation.column).is_null()


def _is_outside(expectation: Any) -> pl.Expr:
    value, low, high = pl.col(expectation.column), expectation.min_value, expectation.max_value
    fails = []
    if low is not None:
        fails.append(value <= low if expectation.strict_min else value < low)
    if high is not None:
        fails.append(value >= high if expectation.strict_max else value > high)
    return pl.any_horizontal(fails)


def _is_not_in_set(expectation: Any) -> pl.Expr:
    return ~pl.col(expectation.column).is_in(list(expectation.value_set))


def _is_not_greater(expectation: Any) -> pl.Expr:
    if expectation.ignore_row_if != _BOTH_MISSING:
        raise _unknown(expectation, f"ignore_row_if {expectation.ignore_row_if!r}")
    first, second = pl.col(expectation.column_A), pl.col(expectation.column_B)
    return first < second if expectation.or_equal else first <= second


_TRANSLATIONS: dict[str, Translation] = {
    "expect_column_values_to_not_be_null": _is_null,
    "expect_column_values_to_be_between": _is_outside,
    "expect_column_values_to_be_in_set": _is_not_in_set,
    "expect_column_pair_values_a_to_be_greater_than_b": _is_not_greater,
}

_COMPARISONS: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "==": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "IN": lambda column, value: column.is_in(list(value)),
    "NOT_IN": lambda column, value: ~column.is_in(list(value)),
}


def _unknown(expectation: Any, what: str) -> SettingsError:
    return SettingsError(
        f"suite events: {expectation.expectation_type} with {what} has no translation for single events; add one to "
        f"expectations/rows.py, or state the rule with one of {', '.join(sorted(_TRANSLATIONS))}"
    )


def _where(expectation: Any) -> pl.Expr | None:
    """Return which rows an expectation is about, null counting as false; None when about all."""
    condition = expectation.row_condition
    if condition is None:
        return None
    kind = getattr(condition, "type", None)
    if kind == "comparison" and condition.operator in _COMPARISONS:
        return _COMPARISONS[condition.operator](pl.col(condition.column.name), condition.parameter)
    if kind == "nullity":
        column = pl.col(condition.column.name)
        return column.is_null() if condition.is_null else column.is_not_null()
    raise _unknown(expectation, f"row_condition {condition!r}")


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
    """Return reason -> expression that is true where a row fails, sorted by reason.

    Args:
        expectations: Those of a suite. Ones without a reason are about a table, not a row, and are left out, as is
            uniqueness.

    Raises:
        SettingsError: a kind of expectation, or an argument of one, has no translation.
    """
    rules: dict[str, pl.Expr] = {}
    for expectation in expectations:
        reason = (expectation.meta or {}).get("reason")
        if reason is None or expectation.expectation_type == _LEFT_TO_STORES:
            continue
        fails = _fails(expectation)
        rules[reason] = rules[reason] | fails if reason in rules else fails
    return dict(sorted(rules.items()))


@cache
def event_rules() -> dict[str, pl.Expr]:
    """Return the rules of the events' suite; the first call imports Great Expectations, which takes seconds."""
    from expectations.suites import build_suites

    return compile_rules(build_suites()["events"].expectations)


def failing_reasons(events: pl.DataFrame) -> pl.Series:
    """Return, for every row, the sorted reasons for which it belongs in quarantine; none: the event is good.

    Args:
        events: To EVENT_SCHEMA, any number of rows.

    Returns:
        `reasons`, List(String), one list a row.
    """
    named = [pl.when(fails).then(pl.lit(reason)) for reason, fails in event_rules().items()]
    return events.select(pl.concat_list(named).list.drop_nulls().alias("reasons")).to_series()
