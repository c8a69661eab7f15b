"""YAML whose keys stand once: of a key that stands twice, YAML keeps the last and says nothing."""

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: a key must stand once; {key.value} stands there again. Leave one")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """Return the content of a YAML text.

    Raises:
        yaml.YAMLError: it is no YAML, or a key stands twice; the message gives the line.
    """
    return yaml.load(text, _Loader)  # noqa: S506  (a safe loader)
