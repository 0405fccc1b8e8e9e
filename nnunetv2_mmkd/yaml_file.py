"""YAML files that users write.

PyYAML comes with nnU-Net; Python 3.10 has no TOML reader.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, cast

import yaml

from nnunetv2_mmkd.errors import InputError


class _Loader(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys without a word; this one refuses."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
            seen.add(key)
        return cast("dict[Hashable, Any]", super().construct_mapping(node, deep))


def read_yaml(file: Path) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: it cannot be read, is no YAML, or has a key twice; the message names file and line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{file}{line}: {problem or error}") from error
    except RecursionError as error:
        raise InputError(f"{file}: cannot be read, its lists lie too deep in one another") from error
    except (AttributeError, TypeError, ValueError) as error:  # a list as a key, a date that does not exist
        raise InputError(f"{file}: holds a key or value that is none in YAML ({error}); put it into quotes") from error
