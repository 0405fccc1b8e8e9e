"""What an evaluation is about: the settings of ``mmkd evaluate``, and the segmentations that it scores.

Legend: S subsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """What is evaluated on.

    Attributes:
        subsets: ``all``, ``singles``, ``full``, or names such as ``t1+t2``.
        folds: of the models; None: all that exist.
        checkpoint: of the models.
        images: folder of images instead of the models' validation cases; for folders of segmentations only under the
            overlays.
        labels: their segmentations.
        dataset_json: for folders of segmentations: the file; default: beside the labels.
        test: the data set's test cases instead of the validation cases.
    """

    subsets: tuple[str, ...] = ("all",)
    folds: tuple[int | str, ...] | None = None
    checkpoint: str = "checkpoint_final.pth"
    images: str | None = None
    labels: str | None = None
    dataset_json: str | None = None
    test: bool = False


@dataclass(frozen=True)
class WindowSettings:
    """nnU-Net's settings of the sliding window, with its defaults.

    Attributes:
        step_size: in patches.
        mirroring: test-time augmentation.
        device: ``"cuda"``, ``"cpu"`` or ``"mps"``.
        on_device: keep the results on the device. All subsets' heads are kept at once: S times the usual memory.
        export_processes: workers that resample and write; 0 for none.
        progress: show progress bars.
    """

    step_size: float = 0.5
    mirroring: bool = True
    device: str = "cuda"
    on_device: bool = True
    export_processes: int = 3
    progress: bool = True


@dataclass(frozen=True)
class ReportOptions:
    """What is written beside the numbers.

    Attributes:
        published: published tables to show alongside.
        improvement_of: method of the improvement column.
        card: write the performance card into the models' folders.
        overlay: cases to draw; empty: the one with the median of the mean Dice.
        overlay_subsets: their columns, as in :attr:`Target.subsets`; empty: the full set and those that lack one
            modality.
        overlay_brightness: factor on the grey values below.
        reference: modality under the overlays, or a file (one that the models never got, say); None: the last one.
        specialists: name under which all specialists are one method in results and tables, a subset from each; None:
            each has a name of its own.
        page: write ``report.html``.
        templates: the papers' tables to make as well; their metrics are computed, too.
    """

    published: tuple[str, ...] = ()
    improvement_of: str | None = None
    card: bool = True
    overlay: tuple[str, ...] = ()
    reference: str | None = None
    specialists: str | None = None
    overlay_subsets: tuple[str, ...] = ()
    overlay_brightness: float = 1.0
    page: bool = True
    templates: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubsetPredictions:
    """A folder of segmentations with subsets.

    Attributes:
        folder: ``<subset>/<case><file ending>`` are in it.
        labels: folder of the truth.
        dataset_json: of the model, or of the labels.
        expected: case -> the subsets that it can be predicted with.
        dataset_name: nnU-Net's name of the data set the cases are of.
        images: case -> its image of each channel, None where there is none; of cases that came from a folder.
    """

    folder: Path
    labels: Path
    dataset_json: dict[str, Any]
    expected: dict[str, tuple[str, ...]]
    dataset_name: str = ""
    images: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
