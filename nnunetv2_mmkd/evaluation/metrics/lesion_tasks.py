"""How each BraTS task counts lesions, as data: the one place to add a task.

Facts from the organisers' published scripts (BraTS-2023-Metrics, BraTS-2024-Metrics, branch BraTS-2024 of FeTS; for
2025 BraTS-2024-Metrics of July 2025 and brats-infra). Where the scripts and their intention differ, the scripts win and
the line says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from nnunetv2_mmkd.errors import InputError, choices


@dataclass(frozen=True)
class LesionRule:
    """How the lesions of one region are told apart and which of them count.

    Attributes:
        dilation: steps by which components are dilated (18 neighbours) before those that meet become one lesion; a
            predicted lesion that meets the dilated true one has found it.
        min_volume: in mm³; a true lesion counts above it, at or below it neither finding nor missing it matters.
        joined_by: regions whose lesions join the lesions of this one that touch the same of theirs, in this order.
        reported: False for a region that only joins others.
    """

    dilation: int
    min_volume: float
    joined_by: tuple[str, ...] = ()
    reported: bool = True


@dataclass(frozen=True)
class LesionTask:
    """Parameters of one task's lesion-wise scores.

    Attributes:
        name: what the user types, e.g. ``"brats2023-gli"``.
        title: what the user reads.
        regions: region name -> its rule, in the order of the official table.
        penalty: HD95 in mm of a missed lesion and of a false positive; None: the diagonal of the image in voxels.
        merge_predictions: predicted components merge by dilation as true ones do (2024).
        remove_small_predictions: predicted lesions of at most ``min_volume`` are removed before everything, the scores
            of the whole region included (2024). All scripts but MEN-RT's count voxels there: the same at 1 mm.
        count_false_positives: whether a predicted lesion that meets no true one lowers the score.
        one_to_one: a true lesion has at most one predicted one and the other way round: those pairs of overlapping
            lesions whose Dice sum to most, as panoptica has it. HD95 is then the pooled one.
        nsd_tolerance: in mm, of a lesion-wise NSD; ``"voxel"``: the shortest side of a voxel; None: there is none.
        note: what else there is to know.
    """

    name: str
    title: str
    regions: Mapping[str, LesionRule]
    penalty: float | None = 374.0
    merge_predictions: bool = False
    remove_small_predictions: bool = False
    count_false_positives: bool = True
    one_to_one: bool = False
    nsd_tolerance: float | Literal["voxel"] | None = None
    note: str = ""

    @property
    def reported(self) -> tuple[str, ...]:
        """Regions that get scores."""
        return tuple(name for name, rule in self.regions.items() if rule.reported)


def _tumour(dilation: int, min_volume: float) -> dict[str, LesionRule]:
    return {name: LesionRule(dilation, min_volume) for name in ("WT", "TC", "ET")}


def _tumour_2024(dilation: int, min_volume: float) -> dict[str, LesionRule]:
    """WT, TC, ET where NETC joins the lesions of ET (metrics_MET.py, metrics_SSA.py)."""
    return {
        **_tumour(dilation, min_volume),
        "ET": LesionRule(dilation, min_volume, joined_by=("NETC",)),
        "NETC": LesionRule(dilation, min_volume, reported=False),
    }


_TASKS = (
    LesionTask("brats2023-gli", "BraTS 2023 GLI", _tumour(3, 50)),
    LesionTask("brats2023-ssa", "BraTS 2023 SSA", _tumour(3, 50)),
    LesionTask("brats2023-ped", "BraTS 2023 PED", _tumour(3, 50)),
    LesionTask("brats2023-men", "BraTS 2023 MEN", _tumour(1, 50)),
    LesionTask("brats2023-met", "BraTS 2023 MET", _tumour(1, 2)),
    LesionTask(
        "brats2024-gli",
        "BraTS 2024 GLI",
        {
            "WT": LesionRule(3, 20),
            "TC": LesionRule(3, 20),
            "NETC": LesionRule(5, 20, joined_by=("ET", "RC")),
            "SNFH": LesionRule(3, 20, joined_by=("ET", "RC", "NETC")),
            "ET": LesionRule(3, 10, joined_by=("NETC", "RC")),
            "RC": LesionRule(5, 20, joined_by=("ET", "NETC")),
        },
        penalty=337.0,
        merge_predictions=True,
        remove_small_predictions=True,
        note="SNFH was meant to be dilated by 5; the script asks for 'SFNH', so 3 is in force.",
    ),
    LesionTask(
        "brats2024-met",
        "BraTS 2024 MET",
        _tumour_2024(1, 2),
        merge_predictions=True,
        remove_small_predictions=True,
        note="ET lesions that touch the same NETC lesion are one.",
    ),
    LesionTask(
        "brats2024-ped",
        "BraTS 2024 PED",
        {name: LesionRule(5, 10) for name in ("WT", "TC", "ET", "NETC", "CC", "ED")},
        merge_predictions=True,
        remove_small_predictions=True,
    ),
    LesionTask(
        "brats2024-ssa",
        "BraTS 2024 SSA",
        _tumour_2024(3, 50),
        merge_predictions=True,
        remove_small_predictions=True,
        note="ET lesions that touch the same NETC lesion are one.",
    ),
    LesionTask(
        "brats2024-men-rt",
        "BraTS 2024 MEN-RT",
        {"GTV": LesionRule(1, 50)},
        penalty=None,
        merge_predictions=True,
        remove_small_predictions=True,
        count_false_positives=False,
        note="The penalty is the diagonal in voxels, whatever the spacing; a prediction where there is no truth costs "
        "nothing.",
    ),
    LesionTask(
        "brats2024-goat",
        "BraTS 2024 GoAT",
        _tumour(3, 50),
        note="The organisers use the 2023 parameters of each case's cohort, from a table that is not public; these are "
        "GLI's. For a known cohort use its 2023 task.",
    ),
    LesionTask("fets2024", "FeTS 2024", _tumour(3, 50), note="The 2023 script with the parameters of GLI."),
)

_BY_NAME = {task.name: task for task in _TASKS}
_SHOWN = "Ranked by Dice and NSD; the organisers show NSD at 0.5 mm, too."


def _brats2025(name: str, before: str) -> LesionTask:
    """A task of 2025 that counts lesions as an earlier one does."""
    task = _BY_NAME[before]
    note = f"Lesions are counted as in {task.title}. {_SHOWN}"
    return replace(task, name=f"brats2025-{name.lower()}", title=f"BraTS 2025 {name}", nsd_tolerance=1.0, note=note)


_TASKS_2025 = (
    _brats2025("GLI", "brats2024-gli"),
    _brats2025("MEN", "brats2023-men"),
    LesionTask(
        "brats2025-met",
        "BraTS 2025 MET",
        {name: LesionRule(0, 0) for name in ("WT", "TC", "ET", "RC")},
        one_to_one=True,
        nsd_tolerance="voxel",
        note="Lesions are found and paired by panoptica's rules. A missed lesion and a false positive count as Dice "
        "and NSD 0 and HD95 374, as in the organisers' package BraTS_evaluation; panoptica's own means are of found "
        "lesions.",
    ),
    _brats2025("PED", "brats2024-ped"),
    _brats2025("SSA", "brats2024-ssa"),
    replace(
        _brats2025("GoAT", "brats2024-gli"),
        regions={
            **{name: LesionRule(3, 20) for name in ("WT", "TC")},
            "ET": LesionRule(3, 10, joined_by=("NETC",)),
            "NETC": LesionRule(5, 20, reported=False),
        },
        note="The organisers use the rules of each case's cohort, from a table that is not public; these are GLI's "
        "without the cavity. For a known cohort use its task of 2025.",
    ),
)

LESION_TASKS: Mapping[str, LesionTask] = MappingProxyType({task.name: task for task in (*_TASKS, *_TASKS_2025)})
"""Task name -> task."""


def lesion_task(task: str | LesionTask) -> LesionTask:
    """The task of a name; a :class:`LesionTask` of one's own passes.

    Raises:
        InputError: an unknown name.
    """
    if isinstance(task, LesionTask):
        return task
    if task not in LESION_TASKS:
        raise InputError(f"lesion-wise task {task!r} is unknown: choose from {choices(str(task), LESION_TASKS)}")
    return LESION_TASKS[task]
