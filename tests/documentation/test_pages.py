"""Pages of the documentation: links lead somewhere, code and tests that they name exist, generated ones are current."""

from __future__ import annotations

import ast
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from documented import PAGES, ROOT

from nnunetv2_mmkd.evaluation.metrics.registry import METRICS
from nnunetv2_mmkd.paths import trainer_folder
from nnunetv2_mmkd.trainer_catalogue import trainers_of
from nnunetv2_mmkd.training.suffixes import SUFFIXES, parse_suffixes

LINK = re.compile(r"!?\[[^\]]*\]\((?!https?:|mailto:)([^)\s]+)\)")
CODE = re.compile(r"`((?:nnunetv2_mmkd|tests|trainer_variants)/[\w./-]+\.py)(?:::(\w+))?`")
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        name, _, anchor = unquote(target).partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(file), f"{page}: {target}; there are {sorted(anchors(file))}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_code_and_tests_that_are_named_exist(page: Path) -> None:
    for name, symbol in CODE.findall(prose(page)):
        assert (ROOT / name).is_file(), f"{page}: {name}"
        if symbol:
            tree = ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8")))
            names = {node.name for node in tree if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
            assert symbol in names, f"{page}: {name} has no {symbol}"


def load(script: Path) -> ModuleType:
    spec = spec_from_file_location(script.stem, script)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "text"), load(ROOT / "documentation" / "generate_reference.py").pages().items(), ids=str
)
def test_generated_pages_are_current(name: str, text: str) -> None:
    found = (ROOT / "documentation" / "reference" / name).read_text(encoding="utf-8")
    assert found == text, f"{name} is out of date: python documentation/generate_reference.py"


def test_readme_is_short_and_names_every_trainer() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for entry in trainers_of(trainer_folder()):
        assert re.search(rf"`(nnUNetTrainer)?{entry.name.removeprefix('nnUNetTrainer')}[`_]", text), entry.name
        assert not entry.url or entry.url in text, entry.url


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "documentation" / "README.md"
    listed = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(prose(index))}
    assert set((ROOT / "documentation").rglob("*.md")) - {index} <= listed


def test_every_metric_is_explained() -> None:
    text = (ROOT / "documentation" / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in METRICS)


def test_endings_that_are_listed_are_endings() -> None:
    for ending in SUFFIXES:
        example = ending.replace("<N>", "3").replace("<K>", "5").replace("<tag>", "mr2468")
        assert parse_suffixes(example) is not None, ending


def test_every_file_and_variable_of_ours_is_explained() -> None:
    text = (ROOT / "documentation" / "reference" / "files.md").read_text(encoding="utf-8")
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "nnunetv2_mmkd").rglob("*.py")]
    names = {name for source in sources for name in re.findall(r"\bmmkd_[a-z_]+\.(?:json|png)", source)}
    names |= {name for source in sources for name in re.findall(r"\"(nnUNet_m[a-z_]+)\"", source)}
    assert len(names) >= 7
    assert not [name for name in sorted(names) if name not in text]


def test_the_drawing_is_current() -> None:
    folder = ROOT / "documentation"
    drawn = load(folder / "draw_architecture.py").drawing()
    assert (folder / "images" / "architecture.svg").read_text(encoding="utf-8") == drawn
    ElementTree.fromstring(drawn)
