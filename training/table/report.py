"""The content of the report as blocks, which `pages` renders as Markdown and HTML."""

from dataclasses import dataclass
from typing import Any

_METRICS = (
    ("average_precision", "average precision"),
    ("roc_auc", "ROC AUC"),
    ("accuracy", "accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("f1", "F1"),
    ("log_loss", "log loss"),
)
_SHOWN = 20  # columns of the table of importances


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Words:
    """A paragraph, with code in backticks."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; `strong` holds the indexes of highlighted rows."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Pictures:
    """Plots side by side: (path relative to the report, caption)."""

    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Code:
    """Shell commands."""

    text: str


Block = Heading | Words | Table | Pictures | Code


def _interval(found: dict[str, float]) -> str:
    # Adding 0.0 turns a negative zero, which rounding can produce, into zero.
    value, low, high = (round(found[name], 3) + 0.0 for name in ("value", "low", "high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _head(name: str, content: dict[str, Any]) -> list[Block]:
    chosen = content["chosen"]["model"]
    test, floor = content["models"][chosen]["test"], content["models"]["base_rate"]["test"]
    return [
        Heading(1, f"{name}: what predicts {content['target']}"),
        Words(
            f"Selected model: `{chosen}`, by average precision on the validation rows. On "
            f"{content['split']['rows']['test']:,} test rows, used neither for training nor for selection, it reaches "
            f"an average precision of {_interval(test['average_precision'])} and a ROC AUC of "
            f"{_interval(test['roc_auc'])}; the base rate reaches {floor['average_precision']['value']:.3f} and 0.500. "
            f"Brackets show 95% intervals."
        ),
    ]


def _rows(content: dict[str, Any]) -> list[Block]:
    account, split, share = content["account"], content["split"], content["share_true"]
    quarantined = account["quarantined"]
    copies = split["duplicates"]
    lines = [("rows in", f"{account['rows']:,}"), ("used", f"{account['used']:,}")]
    lines += [(f"quarantined: {reason}", f"{count:,}") for reason, count in quarantined.items()]
    lines += [("exact duplicates removed", f"{account['exact_duplicates']:,}")]
    lines += [(f"{part} rows", f"{count:,}") for part, count in split["rows"].items()]
    words = (
        f"{copies['copies']:,} rows are exact copies of an earlier row. In an ordinary stratified split of all rows, "
        f"{copies['would_have_crossed']:,} test rows would have a copy among the training and validation rows; in this "
        f"split, {copies['crossing']:,} do. {split['same_inputs_crossing']:,} test rows equal a training or validation "
        f"row in every input column."
    )
    people = split["people"]
    if people["column"] is not None:
        words += (
            f" `{people['column']}` identifies people, of whom there are several rows: "
            f"{people['test_rows_of_known_people']:,} of the {split['rows']['test']:,} test rows are of people who "
            f"also have rows among those learned from."
        )
    if account["exact_duplicates"]:
        words += (
            f" The target is true in {share['used']:.2%} of the rows without copies and {share['with_duplicates']:.2%} "
            f"with them. If equal rows in your table are different sessions, use `--keep-duplicates`."
        )
    return [
        Heading(2, "Rows"),
        Words(f"Rows in = used + quarantined + exact duplicates. Split {split['how']}."),
        Table(("rows", "count"), tuple(lines)),
        Words(words),
    ]


def _column(one: dict[str, Any]) -> tuple[str, ...]:
    what = f"dropped: {one['dropped']}" if one["dropped"] else "used"
    if one.get("kept_although"):
        what = f"kept by --keep; would have been dropped: {one['kept_although']}"
    if one.get("unreadable_cells"):
        what += f"; {one['unreadable_cells']:,} unreadable cells count as missing"
    alone = f"{one['roc_auc_alone']:.3f}" if "roc_auc_alone" in one else ""
    missing = f"{one['missing']:.1%}" if "missing" in one else ""
    return one["column"], one["kind"], missing, alone, what


def _columns(content: dict[str, Any]) -> list[Block]:
    lines = content["columns"]
    dropped = frozenset(place for place, one in enumerate(lines) if one["dropped"] or one.get("kept_although"))
    return [
        Heading(2, "Columns"),
        Words(
            "ROC AUC alone: cross-validated ROC AUC of a small tree on this column only. A column is dropped as a leak "
            "if it reaches 0.98, or if it has a value (a number: is not zero) almost only when the target is true. "
            "Use `--keep COLUMN` for a column that is known before the outcome."
        ),
        Table(("column", "kind", "missing", "ROC AUC alone", "result"), tuple(map(_column, lines)), dropped),
    ]


def _models(content: dict[str, Any]) -> list[Block]:
    names = list(content["models"])
    rows = tuple(
        (
            name,
            f"{found['validation']['average_precision']:.3f}",
            *(_interval(found["test"][metric]) for metric, _ in _METRICS),
            "" if name == content["chosen"]["model"] else _interval(found["chosen_minus_this"]["average_precision"]),
        )
        for name, found in content["models"].items()
    )
    head = ("model", "validation AP", *(words for _, words in _METRICS), "selected minus this, AP")
    return [
        Heading(2, "Models"),
        Words(
            f"All metrics are on the test rows, except validation AP. Intervals are from resampling the test rows; the "
            f"last column compares models on the same resamples. The decision is yes if the probability is at least "
            f"{content['chosen']['threshold']}."
        ),
        Table(head, rows, frozenset({names.index(content["chosen"]["model"])})),
        Pictures(
            (
                ("plots/roc.png", "ROC"),
                ("plots/precision_recall.png", "Precision and recall"),
                ("plots/calibration.png", "Calibration"),
            )
        ),
        Words("In the plots, `model` is the selected model."),
    ]


def _explanation(content: dict[str, Any]) -> list[Block]:
    found = list(content["importance"].items())
    found.sort(key=lambda one: (-one[1]["value"], one[0]))
    rows = tuple((name, _interval(one)) for name, one in found[:_SHOWN])
    return [
        Heading(2, "Importance of the columns"),
        Words(
            "The drop in average precision on the test rows when one column is shuffled, with intervals over ten "
            "shuffles. Correlated columns share their importance."
        ),
        Pictures((("plots/importance_table.png", "Importance"),)),
        Table(("column", "drop in average precision"), rows),
    ]


def blocks(name: str, content: dict[str, Any], serve: str | None) -> list[Block]:
    """Return the blocks of the report.

    Args:
        name: Name of the table.
        content: Content of metrics.json.
        serve: Shell commands that start the service and query it; None if there is no Bento.
    """
    found = [*_head(name, content), *_rows(content), *_columns(content), *_models(content), *_explanation(content)]
    if serve is not None:
        found += [Heading(2, "Serving"), Code(serve)]
    about = f"`{content['data']['file']}`, SHA-256 `{content['data']['digest'][:16]}…`, seed {content['seed']}"
    digest = content["chosen"]["digest"][:16]
    return [*found, Heading(2, "Provenance"), Words(f"{about}. Digest of the model: `{digest}`.")]
