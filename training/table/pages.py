"""The report as Markdown, beside its plots, and as one HTML file that loads nothing."""

import base64
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from shoplens.templates import load_template
from training.table.report import Block, Code, Heading, Pictures, Table, Words, blocks

_INTERVAL = r"(?<= )(\[[-\d., ]+\])$"


def _cell(text: str) -> str:
    """Return a cell of a Markdown table; a bar or a line break would end it."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_cell(text)}"
        case Words(text):
            return text
        case Table(head, rows, strong):
            lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
            for place, row in enumerate(rows):
                cells = [f"**{_cell(row[0])}**" if place in strong else _cell(row[0]), *map(_cell, row[1:])]
                lines.append(f"| {' | '.join(cells)} |")
            return "\n".join(lines)
        case Pictures(files):
            return "\n".join(f"![{words}]({file})" for file, words in files)
        case Code(text):
            return f"```bash\n{text}\n```"


def _mark(text: str, pattern: str, tag: str) -> Markup:
    """Return text, escaped, with the first group of each match in a tag."""
    return Markup(re.sub(pattern, rf"<{tag}>\1</{tag}>", str(escape(text))))  # noqa: S704  (escaped just above)


def write_pages(name: str, content: dict[str, Any], folder: Path, serve: str | None) -> None:
    """Write report.md and report.html into a folder that has plots/; see `blocks` for the arguments."""
    found = blocks(name, content, serve)
    (folder / "report.md").write_text("\n\n".join(map(_markdown, found)) + "\n", encoding="utf-8")
    template = load_template(
        Path(__file__).with_name("report.html"),
        mark=_mark,
        base64=lambda file: base64.b64encode((folder / file).read_bytes()).decode(),
    )
    page = template.render(name=name, blocks=found, interval=_INTERVAL)
    (folder / "report.html").write_text(page + "\n", encoding="utf-8")
