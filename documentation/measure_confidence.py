"""How well do the numbers of ``mmkd predict --uncertainty`` foretell Dice? Measured on held-out cases.

    python documentation/measure_confidence.py MODEL -f 0 1 -o confidence.csv

Each validation case of each fold is predicted with every subset of its modalities by the fold that never saw it.
The table has a row for each case, subset and region. Printed are, for each region and over all, Spearman's rank
correlation of each number with the Dice against the truth, and how far the number is off; at last the quartiles of Dice
by agreement. Intervals: 95 %, by a bootstrap that draws whole cases. Segmentations or truths without a voxel of the
region are left out, and counted.
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

from nnunetv2_mmkd.evaluation.confidence import Mask, entropy, mean_probability, overlap
from nnunetv2_mmkd.evaluation.subsets import all_subset_names
from nnunetv2_mmkd.inference.uncertainty import UncertaintyPredictor
from nnunetv2_mmkd.modalities import mask_of
from nnunetv2_mmkd.paths import set_ext_trainer
from nnunetv2_mmkd.workflows.evaluate.settings import Target
from nnunetv2_mmkd.workflows.evaluate.subset_cases import labelled_cases

NUMBERS = {"agreement": 1, "lowest_agreement": 1, "probability": 1, "expected_dice": 1, "entropy": -1, "voxels": 1}
"""Number -> the sign that its correlation with Dice should have.

Agreement and probability are those of the report. ``lowest_agreement`` is the minimum of ``without``. ``expected_dice``
and ``entropy``, see below, were tried for the report. ``voxels`` is the size of S.
"""
UNITS = ("entropy", "voxels")
BINS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def expected_dice(probability: np.ndarray, mask: Mask) -> float | None:
    """Dice of S against a truth drawn from p, 2 sum_S p / (|S| + sum p); None if S is empty."""
    p = probability.astype(float)
    return float(2 * p[mask].sum() / (mask.sum() + p.sum())) if mask.any() else None


def entropy_per_voxel(probability: np.ndarray, mask: Mask) -> float | None:
    """Entropy for each voxel segmented, sum h / |S|; None if S is empty."""
    return float(entropy(probability).sum(dtype=float) / mask.sum()) if mask.any() else None


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
                    "entropy": entropy_per_voxel(probability, mask),
                    "probability": mean_probability(probability, mask),
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
    found = table[table["truth"] & (table["voxels"] > 0)]
    lines = [f"{len(table)} rows; {len(table) - len(found)} without a voxel of the region in segmentation or truth"]
    for region, rows in [*found.groupby("region", sort=False), ("all regions", found)]:
        lines.append(f"{region}: {len(rows)} rows, mean Dice {rows['dice'].mean():.3f}")
        for number, sign in NUMBERS.items():
            low, high = sorted(sign * each for each in interval(rows, number))
            off = (rows[number] - rows["dice"]).dropna()
            distance = f"; minus Dice {off.mean():+.2f}, absolute {off.abs().mean():.2f}" * (number not in UNITS)
            lines.append(f"  {number}: {sign * correlation(rows, number):.2f} [{low:.2f}, {high:.2f}]{distance}")
    known = found.dropna(subset=["agreement"]).reset_index(drop=True)
    for _, rows in known.groupby(pd.cut(known["agreement"], BINS), observed=True):
        quartiles = np.percentile(rows["dice"], [25, 50, 75])
        between = f"{rows['agreement'].min():.2f} to {rows['agreement'].max():.2f}"
        lines.append(f"agreement {between}: {len(rows)} rows, Dice {' / '.join(f'{each:.2f}' for each in quartiles)}")
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
