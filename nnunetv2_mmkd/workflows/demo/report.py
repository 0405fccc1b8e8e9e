"""Dice table and picture of the demo."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nnunetv2_mmkd.files import replacing
from nnunetv2_mmkd.nnunet_json import read_dataset_json

COLOURS = ListedColormap(["#00000000", "#56B4E9", "#E69F00", "#D55E00"])
LEGEND = {"edema": "#56B4E9", "necrosis / non-enhancing": "#E69F00", "enhancing tumour": "#D55E00"}


@dataclass(frozen=True)
class DiceTable:
    """Dice per prediction, case and region.

    Attributes:
        rows: (prediction, case, region, Dice).
    """

    rows: tuple[tuple[str, str, str, float], ...]

    def mean(self, prediction: str, region: str) -> float:
        """Mean over the cases that have the region (nnU-Net's convention)."""
        return float(np.nanmean([dice for p, _, r, dice in self.rows if (p, r) == (prediction, region)]))

    def as_text(self) -> list[str]:
        """The means as lines of a table."""
        predictions = list(dict.fromkeys(row[0] for row in self.rows))
        regions = list(dict.fromkeys(row[2] for row in self.rows))
        lines = [" | ".join(["mean Dice".ljust(14), *(region.rjust(16) for region in regions)])]
        for prediction in predictions:
            cells = [f"{self.mean(prediction, region):.3f}".rjust(16) for region in regions]
            lines.append(" | ".join([prediction.ljust(14), *cells]))
        return lines


def dice_table(truth: Path, predictions: Mapping[str, Path]) -> DiceTable:
    """nnU-Net's own evaluation of each prediction.

    Args:
        truth: raw data set with ``labelsTr`` and ``dataset.json``.
        predictions: name -> folder.
    """
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    labels = read_dataset_json(truth / "dataset.json").content["labels"]
    regions = {name: tuple(value) for name, value in labels.items() if name != "background"}
    rows = []
    for prediction, folder in predictions.items():
        metrics = compute_metrics_on_folder(
            str(truth / "labelsTr"), str(folder), None, SimpleITKIO(), ".nii.gz", list(regions.values()), None, 1
        )
        for case in metrics["metric_per_case"]:
            name = Path(case["prediction_file"]).name.removesuffix(".nii.gz")
            for region, values in regions.items():
                rows.append((prediction, name, region, float(case["metrics"][values]["Dice"])))
    return DiceTable(tuple(rows))


def write_csv(table: DiceTable, path: Path) -> None:
    """One row per prediction, case and region."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("prediction", "case", "region", "dice"))
        writer.writerows(table.rows)


def draw(truth: Path, predictions: Mapping[str, Path], path: Path) -> None:
    """Each case in the axial slice with most tumour: T1ce, FLAIR, the truth, and the predictions.

    Args:
        truth: raw data set.
        predictions: name -> folder.
        path: PNG, written whole or not at all.
    """
    cases = sorted(file.name.removesuffix(".nii.gz") for file in (truth / "labelsTr").glob("*.nii.gz"))
    columns = ["T1ce", "FLAIR", "truth", *predictions]
    figure = Figure(figsize=(2.5 * len(columns), 2.6 * len(cases) + 0.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(cases), len(columns), squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        label = _read(truth / "labelsTr" / f"{case}.nii.gz")
        slice_ = int((label > 0).sum((0, 1)).argmax())
        t1ce, flair = (_read(truth / "imagesTr" / f"{case}_{channel:04d}.nii.gz") for channel in (1, 3))
        overlays = [None, None, label, *(_read(folder / f"{case}.nii.gz") for folder in predictions.values())]
        for ax, image, overlay in zip(row, (t1ce, *[flair] * (len(columns) - 1)), overlays, strict=True):
            ax.imshow(_view(image, slice_), cmap="gray", interpolation="nearest")
            if overlay is not None:
                ax.imshow(_view(overlay, slice_), cmap=COLOURS, vmin=0, vmax=3, alpha=0.75, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
        row[0].set_ylabel(case.removeprefix("Brats18_"), fontsize=7)
    for ax, title in zip(axes[0], columns, strict=True):
        ax.set_title(title, fontsize=10)
    handles = [Patch(color=colour, label=name) for name, colour in LEGEND.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _read(file: Path) -> NDArray[np.float32]:
    return nib.nifti1.load(file).get_fdata(dtype=np.float32)


def _view(volume: NDArray[np.float32], slice_: int) -> NDArray[np.float32]:
    """An axial slice as radiologists see it: anterior up."""
    return volume[:, :, slice_].T
