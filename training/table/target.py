"""The target column of a flat table, parsed strictly as two values."""

import polars as pl

from shoplens.errors import BrokenTableError, SettingsError
from training.table.columns import is_nested, plain

_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")
_RULE = "must hold two values: true and false, 1 and 0, or yes and no"
# A few unreadable cells are mistakes and are quarantined; with more, this is not a yes-or-no column.
_UNREADABLE = 0.05
LEAST = 20  # rows per value: each of the three splits and the bootstrap need some
_SHOWN = 6


def read_target(frame: pl.DataFrame, target: str) -> tuple[pl.Series, pl.Series]:
    """Return the labels, (rows,), and for rows without one the reason, (rows,): missing or unreadable.

    Raises:
        SettingsError: the table has no such column.
        BrokenTableError: the column does not have two values, or too few rows have one of them.
    """
    if target not in frame.columns:
        raise SettingsError(
            f"--target: must be a column of the table; received {target!r}. It has {', '.join(frame.columns)}"
        )
    if is_nested(frame.schema[target]):
        raise BrokenTableError(f"column {target}: {_RULE}; its type is {frame.schema[target]}. Choose another --target")
    value = frame.select(plain(frame, target).alias("value")).to_series()
    lower = value.str.to_lowercase()
    label = pl.select(pl.when(lower.is_in(_TRUE)).then(True).when(lower.is_in(_FALSE)).then(False)).to_series()
    known, read = len(value) - value.null_count(), len(label) - label.null_count()
    if read < (1 - _UNREADABLE) * known or read == 0:
        seen = value.drop_nulls().value_counts(sort=True)
        shown = ", ".join(repr(one) for one in seen[:_SHOWN, 0].to_list()) or "nothing"
        more = f" and {len(seen) - _SHOWN:,} more" if len(seen) > _SHOWN else ""
        raise BrokenTableError(
            f"column {target}: {_RULE}; found {shown}{more}. Recode it to two values, or choose another --target"
        )
    positives = int(label.sum())
    negatives = read - positives
    if min(positives, negatives) < LEAST:
        raise BrokenTableError(
            f"column {target}: must have at least {LEAST} rows per value; found {positives} true and {negatives} "
            f"false. Add rows, or choose another --target"
        )
    reason = pl.select(
        pl.when(value.is_null())
        .then(pl.lit(f"{target}: missing"))
        .when(label.is_null())
        .then(pl.lit(f"{target}: unreadable"))
    ).to_series()
    return label, reason
