"""Load Jinja2 templates from the folder of the module that renders them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def load_template(path: Path, *, escape: bool = True, functions: Mapping[str, Any] | None = None) -> Template:
    """Load a template that escapes all values for HTML and raises on undefined names.

    Args:
        path: The template's file.
        escape: False for a page that is not HTML.
        functions: Functions available to the template and its macros, by name.
    """
    loader = FileSystemLoader(path.parent)
    environment = Environment(loader=loader, autoescape=escape, undefined=StrictUndefined)  # noqa: S701  (HTML escapes)
    environment.globals.update(functions or {})
    return environment.get_template(path.name)
