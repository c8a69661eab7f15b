"""The report as Markdown, beside its plots, and as one HTML file that loads nothing; its text is in report.jinja."""

import base64
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from shoplens.templates import load_template

_SHOWN = 20  # columns of the table of importances


def _cell(text: str) -> str:
    """Return a cell of a Markdown table; a bar or a line break would end it."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _interval(found: dict[str, float]) -> str:
    # Adding 0.0 turns a negative zero, which rounding can produce, into zero.
    value, low, high = (round(found[name], 3) + 0.0 for name in ("value", "low", "high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _mark(text: str, pattern: str, tag: str) -> Markup:
    """Return text, escaped, with the first group of each match in a tag."""
    return Markup(re.sub(pattern, rf"<{tag}>\1</{tag}>", str(escape(text))))  # noqa: S704  (escaped just above)


def write_pages(name: str, content: dict[str, Any], folder: Path, serve: str | None) -> None:
    """Write report.md and report.html into a folder that has plots/.

    Args:
        name: Name of the table.
        content: Content of metrics.json.
        folder: The folder.
        serve: Shell commands that start the service and query it; None if there is no Bento.
    """
    importance = sorted(content["importance"].items(), key=lambda one: (-one[1]["value"], one[0]))[:_SHOWN]
    functions = {
        "cell": _cell,
        "count": "{:,}".format,
        "interval": _interval,
        "mark": _mark,
        "base64": lambda file: base64.b64encode((folder / file).read_bytes()).decode(),
    }
    for page in ("report.md", "report.html"):
        template = load_template(Path(__file__).with_name(page), escape=page.endswith(".html"), functions=functions)
        text = template.render(name=name, content=content, importance=importance, serve=serve)
        (folder / page).write_text(text.strip() + "\n", encoding="utf-8")
