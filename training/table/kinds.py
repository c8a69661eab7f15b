"""The kinds of columns of a flat table; a module of its own, so that the service need not import the file readers."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "boolean", "category", "time"]


@dataclass(frozen=True)
class Column:
    """A column and its kind.

    Attributes:
        nullable: Whether it has missing values in the table.
        unreadable: Number of cells that cannot be parsed as this kind; they count as missing.
    """

    name: str
    kind: Kind
    nullable: bool
    unreadable: int = 0
