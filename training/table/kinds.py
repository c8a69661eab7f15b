"""What a column of a flat table is. The service imports this, and not how columns are read from a file."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "boolean", "category", "time"]


@dataclass(frozen=True)
class Column:
    """A column and its kind.

    Attributes:
        nullable: Whether it has missing values in the table.
        unreadable: Cells that hold something that is not of the kind; they count as missing.
    """

    name: str
    kind: Kind
    nullable: bool
    unreadable: int = 0
