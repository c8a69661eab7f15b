"""Pages from Jinja2 templates that lie beside the module that renders them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def load_template(path: Path, *, escape: bool = True, functions: Mapping[str, Any] | None = None) -> Template:
    """Return a template that escapes every value for HTML and raises on an undefined name.

    Args:
        path: The template's file.
        escape: False for a page that is not HTML.
        functions: What the template may use, by name; its macros see them, too.
    """
    loader = FileSystemLoader(path.parent)
    environment = Environment(loader=loader, autoescape=escape, undefined=StrictUndefined)  # noqa: S701  (HTML escapes)
    environment.globals.update(functions or {})
    return environment.get_template(path.name)
