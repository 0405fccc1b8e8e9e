"""The papers' own tables as templates: what they look like, and which data sets have them.

That is data: ``results_templates/templates.yaml``, and the cells in ``results_templates/published``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import pandas as pd
import yaml

from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.subsets import AVERAGE, all_subset_names, parse_subset, subset_name
from nnunetv2_mmkd.names import canonical

OUR_METRICS: Mapping[str, str] = {"hd": "hausdorff"}
"""Metric in the published tables -> in ours, where they differ."""

P_VALUE, IMPROVEMENT = "p_value", "improvement"
"""Metrics of the published tables that compare methods."""


@dataclass(frozen=True)
class Template:
    """A paper's table.

    Attributes:
        name: of the template.
        layout: subsets ``"down"`` (columns: method by region), ``"across"`` (rows: region, method), or ``"averages"``
            over them alone (rows: method; columns: region by metric), or :attr:`subset` in their place.
        modalities: canonical, in the order of the paper's bullets.
        table: of ``results_templates/published``; empty: the name.
        dataset: which of the table's data sets; empty: its only one.
        subset: the only one that the table has; empty: all, and their average.
        method: the paper's own, which its test and improvements are about; empty: it has none.
        p_value: pairs of the paper's t-test: ``"subsets"``, or these and their average; None: no test.
    """

    name: str
    layout: Literal["down", "across", "averages"]
    modalities: tuple[str, ...]
    table: str = ""
    dataset: str = ""
    subset: str = ""
    method: str = ""
    p_value: Literal["subsets", "with_average"] | None = None

    @property
    def published(self) -> pd.DataFrame:
        """Its cells, see :func:`~nnunetv2_mmkd.evaluation.published.load_published`."""
        frame = load_published(self.table or self.name)
        return frame[frame["dataset"] == self.dataset] if self.dataset else frame

    @property
    def scores(self) -> pd.DataFrame:
        """Its cells that are scores."""
        frame = self.published
        return frame[~frame["metric"].isin((P_VALUE, IMPROVEMENT))]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Its metrics, by our names."""
        return tuple(OUR_METRICS.get(name, name) for name in self.scores["metric"].unique())

    @property
    def regions(self) -> tuple[str, ...]:
        """Its regions, without the average over them."""
        return tuple(name for name in self.scores["region"].unique() if name != AVERAGE)

    def subsets(self, modalities: Sequence[str]) -> list[str]:
        """Its subsets, by the names that they have with these modalities in channel order."""
        if self.subset:
            return [subset_name(parse_subset(self.subset, modalities), modalities)]
        return all_subset_names(modalities)


@cache
def templates() -> dict[str, Template]:
    """All of them by name."""
    text = (files("nnunetv2_mmkd.results_templates") / "templates.yaml").read_text(encoding="utf-8")
    return {
        name: Template(name, **{**values, "modalities": tuple(values["modalities"])})
        for name, values in yaml.safe_load(text).items()
    }


def find_template(name: str) -> Template:
    """A template by its name.

    Raises:
        InputError: there is none.
    """
    if name not in templates():
        raise InputError(f"template {name}: no such table; there are {choices(name, templates())}")
    return templates()[name]


def check_template(name: str, modalities: Sequence[str], regions: Sequence[str], subsets: Collection[str]) -> None:
    """Refuse a table that cannot be made of a data set.

    Args:
        name: of the template.
        modalities, regions: of the data set.
        subsets: that are evaluated.

    Raises:
        InputError: there is no such template, it has other modalities or regions, or subsets that are not evaluated.
    """
    template = find_template(name)
    if not _fits(template, modalities, regions):
        fitting = [each.name for each in templates().values() if _fits(each, modalities, regions)]
        raise InputError(
            f"template {name} is a table of the modalities {', '.join(template.modalities)} and the regions "
            f"{', '.join(template.regions)}; this data set has {', '.join(map(canonical, modalities))} and "
            f"{', '.join(regions)}. Leave it out, or take one that fits: {', '.join(fitting) or 'none does'}"
        )
    absent = [each for each in template.subsets(modalities) if each not in subsets]
    if absent:
        needed = f"the subset {absent[0]}, which" if template.subset else f"all subsets, and {absent[0]}"
        raise InputError(
            f"template {name}: the table needs {needed} is not evaluated: choose all, or evaluate cases that have "
            "all modalities"
        )


def template_metrics(names: Sequence[str], metrics: Sequence[str]) -> tuple[str, ...]:
    """Metrics and those that some templates need besides.

    Raises:
        InputError: there is no such template.
    """
    return tuple(dict.fromkeys([*metrics, *(metric for name in names for metric in find_template(name).metrics)]))


def _fits(template: Template, modalities: Sequence[str], regions: Sequence[str]) -> bool:
    return {canonical(name) for name in modalities} == set(template.modalities) and set(template.regions) <= set(
        regions
    )
