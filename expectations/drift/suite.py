"""What was judged, as a Great Expectations suite: every value of a measure lies within its limits.

The expectations are Great Expectations' own comparison of two columns, of the table of what was judged, so that any
context reads the suite again without code of ours; a limit that is missing does not bind.
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
    **dict.fromkeys(VOLUMES.values(), "As many rows as on this weekday in the weeks before."),
    **dict.fromkeys(KINDS.values(), "No value vanished that was there every week, and none came that never was."),
    **dict.fromkeys(SHARES.values(), "As many missing values as in the weeks before."),
    **dict.fromkeys(DISTRIBUTIONS.values(), "Numbers are distributed as in the weeks before (stability index)."),
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


def drift_suite(*, stops: bool) -> ExpectationSuite:
    """Return the suite over a table of JUDGED_SCHEMA; `stops`: a value outside its limits stops the run."""
    severity = FailureSeverity.CRITICAL if stops else FailureSeverity.WARNING
    limits = (("value", "low"), ("high", "value"))
    expectations = [_within(measure, *pair, severity) for measure in MEASURES for pair in limits]
    return ExpectationSuite(TABLE, expectations=expectations)


def failing(results: list[ExpectationValidationResult]) -> int:
    """Return how many values Great Expectations found outside their limits; one cannot be both too low and too high."""
    return sum(int(result.result.get("unexpected_count") or 0) for result in results)
