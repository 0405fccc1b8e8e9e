"""The rule that lets the classification use the core: it imports nothing of nnU-Net, of files or of segmentation."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nnunetv2_mmkd

PACKAGE = Path(nnunetv2_mmkd.__file__).parent
CORE = sorted([*(PACKAGE / "methods").glob("*.py"), *(PACKAGE / "losses").glob("*.py"), PACKAGE / "modalities.py"])
ALLOWED = ("methods", "losses", "modalities", "names", "errors", "networks")
"""Packages that the core may import from; of the networks only what needs torch alone (the second test)."""


@pytest.mark.parametrize("file", CORE, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_direct_imports(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for name in named:
        top, _, rest = name.partition(".")
        assert top in {*sys.stdlib_module_names, "torch", "numpy", "nnunetv2_mmkd"}, f"{file.name} imports {name}"
        if top == "nnunetv2_mmkd":
            assert rest.split(".")[0] in ALLOWED, f"{file.name} imports {name}"


@pytest.mark.slow
def test_nothing_else_comes_along() -> None:
    names = [f"nnunetv2_mmkd.{file.parent.name}.{file.stem}" for file in CORE if file.stem != "__init__"]
    names = [name.replace(f".{PACKAGE.name}.", ".") for name in names]
    foreign = ("nnunetv2", "dynamic_network_architectures", "batchgenerators", "SimpleITK", "nibabel", "pandas")
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        f"print([name for name in sys.modules if name.partition('.')[0] in {foreign!r} or name.startswith((\n"
        "  'nnunetv2_mmkd.training', 'nnunetv2_mmkd.inference', 'nnunetv2_mmkd.evaluation', 'nnunetv2_mmkd.phantom'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_classification_knows_no_trainer_of_nnunet() -> None:
    for file in (PACKAGE / "classification").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "import nnunetv2." not in text and "from nnunetv2." not in text, file
