"""What was found, in words: the blocks of the report, which `pages` turns into Markdown and HTML."""

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
    """A paragraph; `code` in backticks."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; the rows whose place is in `strong` stand out."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Pictures:
    """Plots below the report's folder, side by side: (file, what it shows)."""

    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Code:
    """Lines to paste into a shell."""

    text: str


Block = Heading | Words | Table | Pictures | Code


def _interval(found: dict[str, float]) -> str:
    # Adding zero turns the minus zero that rounding leaves into zero.
    value, low, high = (round(found[name], 3) + 0.0 for name in ("value", "low", "high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _head(name: str, content: dict[str, Any]) -> list[Block]:
    chosen = content["chosen"]["model"]
    test, floor = content["models"][chosen]["test"], content["models"]["base_rate"]["test"]
    return [
        Heading(1, f"{name}: what predicts {content['target']}"),
        Words(
            f"Chosen: `{chosen}`, by average precision on the validation rows. On {content['split']['rows']['test']:,} "
            f"test rows, which neither training nor the choice has seen, it reaches average precision "
            f"{_interval(test['average_precision'])} and ROC AUC {_interval(test['roc_auc'])}; the base rate reaches "
            f"{floor['average_precision']['value']:.3f} and 0.500. Brackets are 95% intervals."
        ),
    ]


def _rows(content: dict[str, Any]) -> list[Block]:
    account, split, share = content["account"], content["split"], content["share_true"]
    set_aside = content["account"]["quarantined"]
    copies = split["duplicates"]
    lines = [("rows in", f"{account['rows']:,}"), ("used", f"{account['used']:,}")]
    lines += [(f"quarantined: {reason}", f"{count:,}") for reason, count in set_aside.items()]
    lines += [("exact duplicates set aside", f"{account['exact_duplicates']:,}")]
    lines += [(f"{part} rows", f"{count:,}") for part, count in split["rows"].items()]
    words = (
        f"{copies['copies']:,} rows are exact copies of an earlier row. In a plain stratified split of all rows, "
        f"{copies['would_have_crossed']:,} test rows would have had a copy among the rows learned from; in this split "
        f"{copies['crossing']:,} have. {split['same_inputs_crossing']:,} test rows are equal to a row learned from in "
        f"every column that the models see."
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
            f" Without the copies the target is true in {share['used']:.2%} of the rows, with them in "
            f"{share['with_duplicates']:.2%}: if equal rows of your table are different sessions, use "
            f"`--keep-duplicates`."
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
        what = f"kept as asked, although it {one['kept_although']}"
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
            "Alone: ROC AUC of a small tree on this column only, on training rows that it has not seen. A column is "
            "dropped as a leak from 0.98 on, or when its being filled (or not zero) says nearly exactly that the "
            "target is true. `--keep COLUMN` keeps one that is known before the answer."
        ),
        Table(("column", "kind", "missing", "ROC AUC alone", "what became of it"), tuple(map(_column, lines)), dropped),
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
    head = ("model", "validation AP", *(words for _, words in _METRICS), "chosen minus this, AP")
    return [
        Heading(2, "Models"),
        Words(
            f"All on the test rows, but for the first figure. Intervals by resampling test rows; the last column "
            f"compares on the same resamples. Decision from probability {content['chosen']['threshold']} on."
        ),
        Table(head, rows, frozenset({names.index(content["chosen"]["model"])})),
        Pictures(
            (
                ("plots/roc.png", "ROC"),
                ("plots/precision_recall.png", "Precision and recall"),
                ("plots/calibration.png", "Calibration"),
            )
        ),
        Words("In the plots, `model` is the chosen one."),
    ]


def _explanation(content: dict[str, Any]) -> list[Block]:
    found = list(content["importance"].items())
    found.sort(key=lambda one: (-one[1]["value"], one[0]))
    rows = tuple((name, _interval(one)) for name, one in found[:_SHOWN])
    return [
        Heading(2, "What the chosen model looks at"),
        Words(
            "How much average precision falls on the test rows when one column is shuffled; intervals over ten "
            "shuffles. Columns that say the same share their importance."
        ),
        Pictures((("plots/importance_table.png", "Importance"),)),
        Table(("column", "fall of average precision"), rows),
    ]


def blocks(name: str, content: dict[str, Any], serve: str | None) -> list[Block]:
    """Return the report.

    Args:
        name: Of the table.
        content: What metrics.json holds.
        serve: Shell lines that serve the model and ask it, if there is a Bento.
    """
    found = [*_head(name, content), *_rows(content), *_columns(content), *_models(content), *_explanation(content)]
    if serve is not None:
        found += [Heading(2, "Serve it"), Code(serve)]
    about = f"`{content['data']['file']}`, SHA-256 `{content['data']['digest'][:16]}…`, seed {content['seed']}"
    digest = content["chosen"]["digest"][:16]
    return [*found, Heading(2, "From what"), Words(f"{about}. Digest of the model: `{digest}`.")]
