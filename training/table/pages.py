"""The report as Markdown, beside its plots, and as one HTML file that needs nothing else."""

import base64
import html
import re
from pathlib import Path
from typing import Any

from training.table.report import Block, Code, Heading, Pictures, Table, Words, blocks

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #dde2e9; --page: #f5f6f8; --card: #fff;
  --strong: #e8f0fb; --accent: #2f6db5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b4; --line: #343c48; --page: #14181e;
  --card: #1c222b; --strong: #22344c; --accent: #7db0ee; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 27px; margin: 0 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 8px; padding-top: 14px; border-top: 1px solid var(--line); }
p { max-width: 82ch; margin: 8px 0 14px; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  margin: 12px 0; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 12px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
tr:last-child td { border-bottom: 0; }
tr.strong td { background: var(--strong); font-weight: 600; }
small { color: var(--soft); white-space: nowrap; display: inline-block; font-size: 12px; font-weight: 400; }
td:first-child { font-weight: 600; }
.pictures { display: flex; flex-wrap: wrap; gap: 14px; }
.pictures img { flex: 1 1 340px; min-width: 0; max-width: 100%; border: 1px solid var(--line); border-radius: 8px;
  background: #fff; object-fit: contain; }
.pictures img:only-child { flex: 0 1 820px; }
code { font: 13px ui-monospace, monospace; background: var(--strong); padding: 1px 5px; border-radius: 4px; }
pre { background: var(--card); border: 1px solid var(--line); border-left: 3px solid var(--accent); border-radius: 8px;
  padding: 12px 16px; overflow-x: auto; font: 13px/1.6 ui-monospace, monospace; }
"""
_INTERVAL, _SMALL = re.compile(r" (\[[-\d., ]+\])$"), r" <small>\1</small>"


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


def _html_table(head: tuple[str, ...], rows: tuple[tuple[str, ...], ...], strong: frozenset[int]) -> str:
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
    for place, row in enumerate(rows):
        cells = "".join(f"<td>{_INTERVAL.sub(_SMALL, html.escape(cell))}</td>" for cell in row)
        lines.append(f'<tr class="strong">{cells}</tr>' if place in strong else f"<tr>{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _html(block: Block, folder: Path) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Words(text):
            coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
            return f"<p>{coded}</p>"
        case Table(head, rows, strong):
            return _html_table(head, rows, strong)
        case Pictures(files):
            images = (
                f'<img alt="{html.escape(words)}" src="data:image/png;base64,'
                f'{base64.b64encode((folder / file).read_bytes()).decode()}">'
                for file, words in files
            )
            return f'<div class="pictures">{"".join(images)}</div>'
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"


def write_pages(name: str, content: dict[str, Any], folder: Path, serve: str | None) -> None:
    """Write report.md and report.html into a folder that has plots/; see `blocks` for the arguments."""
    found = blocks(name, content, serve)
    (folder / "report.md").write_text("\n\n".join(map(_markdown, found)) + "\n", encoding="utf-8")
    body = "\n".join(_html(block, folder) for block in found)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(name)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body><main>\n{body}\n</main></body></html>\n"
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
