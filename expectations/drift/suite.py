"""The drift suite: every value of every measure lies within its limits.

It uses Great Expectations' built-in comparison of two columns, so any context can load the suite without our code. A
null limit does not apply.
"""

from typing import Any

import great_expectations.expectations as gxe
from great_expectations import ExpectationSuite
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.row_conditions import Column

from expectations.drift.bands import DISTRIBUTIONS, KINDS, MEASURES, SHARES, VOLUMES

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


def failing(results: list[ExpectationValidationResult]) -> int:
    """Return the number of values outside their limits; no value is counted twice, as it cannot violate both limits."""
    return sum(int(result.result.get("unexpected_count") or 0) for result in results)
