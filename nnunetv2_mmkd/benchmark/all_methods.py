"""The page "all methods, one table": what a method is, what it costs here, and what was printed of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import as_file, files

import pandas as pd

from nnunetv2_mmkd.benchmark.report import BenchmarkReport, TrainerCost
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.subsets import AVERAGE
from nnunetv2_mmkd.trainer_catalogue import TrainerEntry, trainers_of
from nnunetv2_mmkd.training.preflight import find_own_trainer
from nnunetv2_mmkd.training.specialist import nnUNetTrainerSubset

REGIONS = ("WT", "TC", "ET")
ONE_SUBSET = "_t1_t2"
"""Ending of the names of trainers of one subset: half of BraTS' modalities."""

PRINTED = {
    "MetaKD": ("metakd_table1", "MetaKD", ""),
    "MCKD": ("mckd_table1", "MCKD", ""),
    "LCKD": ("lckd_table2", "LCKD-m", ""),
    "LCKDSingleTeacher": ("lckd_table2", "LCKD-s", ""),
    "MSTKDNet": ("mst_kdnet_table3", "MST-KDNet", ""),
    "ACN": ("mst_kdnet_table3", "ACN", ""),
    "SMUNet": ("mst_kdnet_table3", "SMUNet", ""),
    "DeMoSeg": ("demoseg_repository", "DeMoSeg", ""),
    "ModDrop": ("passion_table1", "mmFormer+ModDrop", "IDT (s,m,l) = (0.2, 0.5, 0.8)"),
    "PMR": ("passion_table1", "mmFormer+PMR", "IDT (s,m,l) = (0.2, 0.5, 0.8)"),
    "M2FTrans": ("passion_table3", "M2FTrans", "PDT"),
    "PASSION": ("passion_table3", "mmFormer+PASSION", "IDT (0.2, 0.4, 0.6, 0.8)"),
    "PASSION_RFNet": ("passion_table3", "RFNet+PASSION", "IDT (0.2, 0.4, 0.6, 0.8)"),
    "PASSION_M2FTrans": ("passion_table3", "M2FTrans+PASSION", "IDT (0.2, 0.4, 0.6, 0.8)"),
    "RFNet": ("metakd_table5", "RFNet", ""),
    "SFusion": ("metakd_table5", "SFusion", ""),
    "mmFormer": ("metakd_table1", "mmFormer", ""),
    "ShaSpec": ("metakd_table1", "ShaSpec", ""),
    "UHeMIS": ("metakd_table1", "U-HeMIS", ""),
    "UHVED": ("metakd_table1", "U-HVED", ""),
    "RobustSeg": ("metakd_table1", "RobustSeg", ""),
}
"""Trainer -> table of ``results_templates/published``, method and setting in it. The others have no average in them."""

TESTED_ON = {
    "metakd_table1": "66 online cases",
    "mckd_table1": "66 online cases",
    "lckd_table2": "66 online cases",
    "metakd_table5": "125 online cases",
    "demoseg_repository": "100 of 369 cases",
    "mst_kdnet_table3": "a fifth of 1250 cases",
    "passion_table1": "100 of 369 cases",
    "passion_table3": "100 of 369 cases",
}
"""Table -> the cases that were scored, as its paper says."""

TITLE = """\
# All methods, one table

Written by `mmkd benchmark --all FILE`; change nothing by hand.

What each trainer is, what it costs, and what papers print of it.

- **Costs** are ours, counted on a {plan}: ratios to the stock nnU-Net trainer, patch {patch}, batch {batch},
  {modalities} modalities, subsets drawn uniformly.{timed} What they mean is in [what it costs](cost.md).
- **CPU time** and **ours** were measured before, not by this command: a [training step](cost.md#time-on-a-cpu-plan) on
  the plan of [our comparisons](../how-to/cpu-plan.md) over the stock one's, and Dice (%) of WT / TC / ET after short
  trainings on 12 gliomas, with the difference to ModalityDropout after as many iterations.
  [Which trainer](which-trainer.md) has the protocols and the intervals, without which these differences say little.
- **Printed** are Dice (%) of WT / TC / ET, averaged over all subsets, under the protocol of the table that is named:
  other splits, networks and lengths than yours. They compare methods within one table only.

"""

NOTES = """
FLOPs: of a training step, forward and backward, nothing recomputed; after the + what happens between steps
(meta-updates, elections), spread over all. Saved: bytes kept for backward with all modalities there, with what the
trainer recomputes on CUDA. All subsets: FLOPs of predicting all {subsets} subsets of a case over one prediction of the
stock network. Weights: parameters that are deployed, + those that a method has besides, only in training (teachers,
image decoders, discriminators). A trainer of one subset is counted with two modalities. Ours: "3 mm, 3 seeds", 1500
iterations, two folds; "3 mm, 1 seed", the same with one seed; "2 mm", 600 iterations, two folds, one seed; "2 mm,
imbalanced", the same with 300 iterations, training cases masked by unequal missing rates; a mean over all subsets but
where one is named. (!): the printed average is not the average of its rows, or the paper prints another one elsewhere
(`mmkd evaluate --published TABLE` shows the cells).
"""


def all_trainers() -> tuple[str, ...]:
    """Every trainer of this package by name; those of one subset with one."""
    names = []
    for entry in _entries():
        one = issubclass(find_own_trainer(entry.name), nnUNetTrainerSubset)
        names.append(f"{entry.name}{ONE_SUBSET}" if one else entry.name)
    return tuple(names)


def all_methods_page(report: BenchmarkReport) -> str:
    """The page, as Markdown.

    Args:
        report: of :func:`all_trainers`, or of some of them.
    """
    costs = {row.trainer.removesuffix(ONE_SUBSET): row for row in report.rows}
    timed = report.timed_patch is not None
    shown = ["trainer", "idea", "paper", "FLOPs", *(["time"] if timed else []), "saved", "all subsets", "weights"]
    shown += ["CPU time", "ours"]
    measured = _measured()
    rows = []
    for entry in _entries():
        if entry.name in costs:
            own = _ours(measured, entry.name.removeprefix("nnUNetTrainer"))
            rows.append([*_about(entry), *_costs(costs[entry.name], timed), *own, _printed(entry.name)])
    how = ""
    if report.timed_patch is not None:
        edges = "x".join(map(str, report.timed_patch))
        unit = "CPU seconds" if report.cpu_time else "seconds"
        how = f" Time: {unit} of whole steps at {edges} on {report.device}, trainers in turn, {report.steps} rounds."
    head = TITLE.format(
        plan=report.plan, patch="x".join(map(str, report.patch)), batch=report.batch_size,
        modalities=report.n_modalities, timed=how,
    )  # fmt: skip
    aligned = ["---"] * 3 + ["--:"] * (len(shown) - 4) + ["---"] * 2
    lines = [[*shown, "printed (data set, table)"], aligned, *rows]
    return head + _markdown(lines) + NOTES.format(subsets=2**report.n_modalities - 1)


def _entries() -> tuple[TrainerEntry, ...]:
    return trainers_of(str(files("nnunetv2_mmkd.trainer_variants")))


def _about(entry: TrainerEntry) -> list[str]:
    name = entry.name.removeprefix("nnUNetTrainer")
    paper = f"[{entry.paper}]({entry.url})" if entry.url else entry.paper or "–"
    return [f"`{name}`", entry.summary.removesuffix("."), paper]


def _costs(row: TrainerCost, timed: bool) -> list[str]:
    flops = f"{row.flops_ratio:.2f}" + (f" + {row.event.amortised_flops:.2f}" if row.event is not None else "")
    time = "–" if row.iteration_time_ratio is None else f"{row.iteration_time_ratio:.2f}"
    every = "–" if row.subsets_flops_ratio is None else f"{row.subsets_flops_ratio:.1f}"
    besides = f" + {row.besides_ratio:.2f}" if row.besides_ratio >= 0.005 else ""
    saved = f"{row.saved_ratio[row.default_recomputed]:.2f}"
    return [flops, *([time] if timed else []), saved, every, f"{row.parameters_ratio:.2f}{besides}"]


def _measured() -> pd.DataFrame:
    """``results_templates/measured.csv``, by trainer."""
    with as_file(files("nnunetv2_mmkd.results_templates") / "measured.csv") as file:
        return pd.read_csv(file, index_col="trainer")


def _ours(measured: pd.DataFrame, trainer: str) -> list[str]:
    """CPU time, and Dice with the difference to the control."""
    if trainer not in measured.index:
        return ["–", "–"]
    row = measured.loc[trainer]
    time = "–" if pd.isna(row["time"]) else f"{row['time']:.1f}"
    if pd.isna(row["protocol"]):
        return [time, "–"]
    where = row["protocol"] if pd.isna(row["subset"]) else f"{row['protocol']}, {row['subset']}"
    values = " / ".join(f"{row[region]:.1f}" for region in REGIONS)
    gains = [row[region] - row[f"control_{region}"] for region in REGIONS]
    gain = "" if pd.isna(gains[0]) else f", {' / '.join(f'{each:+.1f}' for each in gains)}"
    return [time, f"{values}{gain} ({where})"]


def _printed(trainer: str) -> str:
    key = trainer.removeprefix("nnUNetTrainer")
    if key not in PRINTED:
        return "–"
    table, method, setting = PRINTED[key]
    cells = load_published(table)
    cells = cells[(cells["method"] == method) & (cells["setting"] == setting) & (cells["metric"] == "dice")]
    values, doubted = [], False
    for region in REGIONS:
        found = cells[cells["region"] == region]
        average = found[found["subset"] == AVERAGE]
        if len(average) == 1:
            doubted |= bool(average["flag"].iloc[0])
            values.append(f"{average['value'].iloc[0]:.1f}")
        else:
            values.append(f"{found[found['subset'] != AVERAGE]['value'].mean():.1f}" if len(found) else "–")
    where = f"{cells['dataset'].iloc[0]}{', ' + setting if setting else ''}, {TESTED_ON[table]}, `{table}`"
    return f"{' / '.join(values)}{' (!)' if doubted else ''} ({where})"


def _markdown(rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
