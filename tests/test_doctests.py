"""The examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import nnunetv2_mmkd

PARSER = doctest.DocTestParser()


def with_examples() -> list[str]:
    """Modules of the package that have a line with ``>>>``."""
    modules = []
    for module in pkgutil.walk_packages(nnunetv2_mmkd.__path__, "nnunetv2_mmkd."):
        spec = find_spec(module.name)
        if spec is not None and spec.origin is not None and ">>> " in Path(spec.origin).read_text(encoding="utf-8"):
            modules.append(module.name)
    return modules


MODULES = with_examples()


def test_losses_and_metrics_have_examples() -> None:
    packages = {name.split(".")[1] for name in MODULES}
    assert {"losses", "evaluation"} <= packages


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed
