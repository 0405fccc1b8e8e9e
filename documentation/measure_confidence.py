"""How well do the numbers of ``mmkd predict --uncertainty`` foretell Dice? Measured on held-out cases.

    python documentation/measure_confidence.py MODEL -f 0 1 -o confidence.csv

Each validation case of each fold is predicted with every subset of its modalities by the fold that never saw it.
The table has a row for each case, subset and region. Printed are, for each region and over all, Spearman's rank
correlation of each number with the Dice against the truth, and how far the expected Dice is off. Intervals: 95 %, by a
bootstrap that draws whole cases. Segmentations or truths without a voxel of the region are left out, and counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from scipy.stats import spearmanr

from nnunetv2_mmkd.evaluation.confidence import expected_dice, mean_entropy, overlap
from nnunetv2_mmkd.evaluation.subsets import all_subset_names
from nnunetv2_mmkd.inference.uncertainty import UncertaintyPredictor
from nnunetv2_mmkd.modalities import mask_of
from nnunetv2_mmkd.paths import set_ext_trainer
from nnunetv2_mmkd.workflows.evaluate.settings import Target
from nnunetv2_mmkd.workflows.evaluate.subset_cases import labelled_cases

NUMBERS = {"expected_dice": 1, "entropy": -1, "inside": 1, "agreement": 1, "lowest_agreement": 1, "voxels": 1}
"""Number -> the sign that its correlation with Dice should have.

``inside`` is the mean of p in S, the agreements are mean and minimum of ``without``. ``voxels`` is the size of S: a
number that is no better than this is worth nothing.
"""


def measure(model: str, fold: int, known: set[str], *, mirroring: bool, step_size: float) -> Iterator[pd.DataFrame]:
    """A table for each validation case of a fold that is not known: a row for each subset and region."""
    predictor = UncertaintyPredictor(
        tile_step_size=step_size, use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(model, (fold,))
    labels, cases = labelled_cases(model, predictor, Target(folds=(fold,)), progress=False)
    reader, ending = predictor.plans_manager.image_reader_writer_class(), predictor.dataset_json["file_ending"]
    host = (predictor.plans_manager, predictor.configuration_manager, predictor.label_manager)
    for case in cases[str(fold)]:
        if case.identifier in known:
            continue
        rows = []
        data, properties = case.load()
        truth = predictor.regions.masks(reader.read_seg(f"{labels}/{case.identifier}{ending}")[0][0])
        masks: dict[str, dict[str, np.ndarray]] = {}
        for name in all_subset_names(predictor.modalities):  # smaller subsets first
            available = mask_of(predictor.modalities, available=name.split("+"))
            if bool((available & ~case.available).any()):
                continue
            predictor._current = available
            logits, probabilities = predictor.predict_probabilities(data)
            masks[name] = predictor._masks(logits)
            final = convert_predicted_logits_to_segmentation_with_correct_shape(logits, *host, properties)
            segmented = predictor.regions.masks(final)
            used = name.split("+")
            smaller = ["+".join(each for each in used if each != left) for left in used] if len(used) > 1 else []
            for region, probability in zip(masks[name], probabilities, strict=True):
                mask = masks[name][region]
                agreements = [overlap(mask, masks[each][region]) for each in smaller if each in masks]
                both = [each for each in agreements if each is not None]
                row = {
                    "case": case.identifier,
                    "subset": name,
                    "region": region,
                    "dice": overlap(segmented[region], truth[region]),
                    "truth": bool(truth[region].any()),
                    "expected_dice": expected_dice(probability, mask),
                    "entropy": mean_entropy(probability, mask),
                    "inside": float(probability[mask].mean()) if mask.any() else None,
                    "agreement": float(np.mean(both)) if both else None,
                    "lowest_agreement": min(both, default=None),
                    "voxels": int(mask.sum()),
                }
                rows.append(row)
        yield pd.DataFrame(rows)
        sys.stderr.write(f"fold {fold}: {case.identifier}\n")


def correlation(rows: pd.DataFrame, number: str) -> float:
    """Spearman's rank correlation with Dice."""
    both = rows[[number, "dice"]].dropna()
    return float(spearmanr(both[number], both["dice"]).statistic) if len(both) > 2 else np.nan


def interval(rows: pd.DataFrame, number: str, resamples: int = 1000) -> tuple[float, float]:
    """Bootstrap interval of :func:`correlation`, whole cases drawn."""
    both = rows[["case", number, "dice"]].dropna()
    values, groups = both[[number, "dice"]].to_numpy(float), list(both.groupby("case").indices.values())
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(resamples if len(groups) > 1 else 0):
        chosen = np.concatenate([groups[index] for index in generator.integers(0, len(groups), len(groups))])
        drawn.append(spearmanr(values[chosen]).statistic)
    low, high = np.nanpercentile(drawn, [2.5, 97.5]) if drawn else (np.nan, np.nan)
    return float(low), float(high)


def summary(table: pd.DataFrame) -> str:
    """What is printed."""
    lines = []
    for region, rows in [*table.groupby("region", sort=False), ("all", table)]:
        left = rows[rows["truth"] & rows["expected_dice"].notna()]
        off = left["expected_dice"] - left["dice"]
        texts = [f"expected - true {off.mean():+.3f}, absolute {off.abs().mean():.3f}"]
        for number, sign in NUMBERS.items():
            low, high = interval(left, number)
            texts.append(f"{number} {sign * correlation(left, number):.2f} [{min(sign * low, sign * high):.2f}, "
                         f"{max(sign * low, sign * high):.2f}]")  # fmt: skip
        lines.append(f"{region}: {len(left)} of {len(rows)} rows; {'; '.join(texts)}")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How well confidence foretells Dice on held-out cases.")
    parser.add_argument("model", help="model folder")
    parser.add_argument("-f", nargs="+", type=int, default=[0], help="folds")
    parser.add_argument("-o", type=Path, required=True, help="table (CSV); cases that are in it stay")
    parser.add_argument("-step_size", type=float, default=0.5)
    parser.add_argument("--disable_tta", action="store_true")
    args = parser.parse_args(argv)
    set_ext_trainer()
    how = {"mirroring": not args.disable_tta, "step_size": args.step_size}
    known = set(pd.read_csv(args.o)["case"]) if args.o.is_file() else set()
    for fold in args.f:
        for rows in measure(args.model, fold, known, **how):
            rows.to_csv(args.o, mode="a", header=not args.o.is_file(), index=False)
    sys.stdout.write(summary(pd.read_csv(args.o)))


if __name__ == "__main__":
    main()
