"""Read hand-written YAML 1.2: duplicate keys are errors, and every part has a line number."""

from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode


class YamlFileError(ValueError):
    """A text is not YAML or has a duplicate key; the message gives the line."""


def read_yaml(text: str) -> Any:
    """Parse a YAML text to built-in types; raise a YamlFileError if it is not YAML."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        problem, line = str(error), 1
        if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
            problem, line = error.problem or problem, error.problem_mark.line + 1
        rule = "a key must occur only once; " if isinstance(error, DuplicateKeyError) else ""
        raise YamlFileError(f"line {line}: {rule}{problem}") from error


def line_of(text: str, location: tuple[Any, ...]) -> int:
    """Return the line, from 1, of the deepest existing part of `location` (keys and positions) in a YAML text."""
    node, line = YAML().load(text), 1
    for part in location:
        if isinstance(node, CommentedMap) and part in node:
            line = node.lc.key(part)[0] + 1
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
        else:
            break
        node = node[part]
    return line


def set_values(text: str, changes: Mapping[str, Any]) -> str:
    """Replace values in a YAML text, each named by its path ("train.rows.horizon_days"); nothing else changes.

    Raises:
        YamlFileError: a path leads to no single value.
    """
    places = []
    for path, value in changes.items():
        node = YAML().compose(text)
        for key in path.split("."):
            node = next((v for k, v in node.value if k.value == key), None) if isinstance(node, MappingNode) else None
        if not isinstance(node, ScalarNode):
            raise YamlFileError(f"{path}: must lead to a value; there is none")
        places.append((node.start_mark.index, node.end_mark.index, yaml_line(value)))
    for begin, end, new in sorted(places, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def yaml_line(value: Any) -> str:
    """Format a value as one line of YAML, quoting text that would otherwise be parsed as something else."""
    yaml: Any = YAML(typ="safe", pure=True)
    stream = StringIO()
    yaml.default_flow_style, yaml.width, yaml.sort_base_mapping_type_on_output = True, 1 << 20, False
    yaml.dump(value, stream)
    return stream.getvalue().removesuffix("...\n").strip()
