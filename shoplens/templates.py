"""Pages from Jinja2 templates that lie beside the module that renders them."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def load_template(path: Path, **functions: Any) -> Template:
    """Return a template that escapes every value, raises on an undefined name and may call `functions`."""
    environment = Environment(loader=FileSystemLoader(path.parent), autoescape=True, undefined=StrictUndefined)
    environment.globals.update(functions)
    return environment.get_template(path.name)
