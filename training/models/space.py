"""The search space of a model: which of its parameters are tuned, and over which values.

A space maps paths below `train.purchase` or `train.next_item` ("network.width") to a range of values.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from shoplens.errors import ModelError

Value = int | float | str


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`, both included; integers if both are.

    Attributes:
        log: Whether values are drawn uniformly on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            rule = "low must be positive with log, and " if self.log else ""
            raise ModelError(f"space: {rule}low must be below high; received {self.low} and {self.high}")

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that must be valid for all to be."""
        return self.low, self.high

    def including(self, value: Value) -> "Between":
        """Return the range, widened to contain `value`."""
        if isinstance(value, str):
            raise ModelError(f"space: Between must be the range of a number; the parameter is {value!r}")
        return Between(min(self.low, value), max(self.high, value), self.log)


@dataclass(frozen=True)
class Among:
    """One of several values."""

    choices: tuple[Value, ...]

    def __post_init__(self) -> None:
        if len(set(self.choices)) < 2:
            raise ModelError(f"space: there must be at least two different choices; received {self.choices}")

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that must be valid for all to be."""
        return self.choices

    def including(self, value: Value) -> "Among":
        """Return the choices and `value`."""
        return self if value in self.choices else Among((*self.choices, value))


Space = Mapping[str, Between | Among]
