"""Maps of uncertainty in the geometry of the images: h of :mod:`nnunetv2_mmkd.evaluation.confidence` in percent, of the
probability resampled as nnU-Net resamples its own.

The probabilities travel from the predictor to whoever exports the case (a worker of nnU-Net's) in a file beside the
output that is still unfinished.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_mmkd.evaluation.confidence import RegionConfidence, entropy
from nnunetv2_mmkd.inference.model_folder import TrainedModel
from nnunetv2_mmkd.inference.reader import CompletingIO, CompletingPlans
from nnunetv2_mmkd.inference.uncertainty_files import UNCERTAINTY, numbers_file

_TRAVELLING = ".mmkd.npz"


def region_folders(regions: Sequence[str]) -> dict[str, str]:
    """Region -> name of the folder of its maps; regions are named as users like.

    >>> region_folders(["WT", "lesion, new", "lesion new"])
    {'WT': 'WT', 'lesion, new': 'lesion_new', 'lesion new': 'lesion_new_2'}
    """
    names: dict[str, str] = {}
    for index, region in enumerate(regions):
        name = re.sub(r"[^\w-]+", "_", region).strip("_") or "region"
        taken = {each.casefold() for each in names.values()}
        names[region] = f"{name}_{index}" if name.casefold() in taken else name
    return names


def save_case(output: str, probabilities: np.ndarray, numbers: Mapping[str, RegionConfidence]) -> None:
    """Leave probabilities and numbers of a case for :class:`UncertaintyIO`.

    Args:
        output: of the case, without ending, in a partial folder.
        probabilities: ``[R, *spatial]`` on the grid of the network.
        numbers: region -> how sure.
    """
    text = json.dumps({name: each.as_json() for name, each in numbers.items()})
    np.savez(output + _TRAVELLING, probabilities=probabilities.astype(np.float16), numbers=np.array(text))


class UncertaintyIO(CompletingIO):
    """:class:`CompletingIO` that also writes maps and numbers of the cases that :func:`save_case` was called for."""

    def __init__(
        self,
        planned: type[BaseReaderWriter],
        file_ending: str,
        orientation: str | None,
        plans: Mapping[str, Any],
        configuration: Mapping[str, Any],
        regions: tuple[str, ...],
    ) -> None:
        super().__init__(planned, file_ending, orientation)
        self.plans, self.configuration, self.regions = plans, configuration, regions

    def write_seg(self, seg: np.ndarray, output_fname: str, properties: dict[str, Any]) -> None:
        """Write a segmentation, and what belongs to it."""
        super().write_seg(seg, output_fname, properties)
        folder, name = os.path.split(output_fname)
        stem = name[: -len(self.file_ending)]
        file = Path(folder, stem + _TRAVELLING)
        if not file.is_file():
            return
        with np.load(file) as saved:
            probabilities, numbers = saved["probabilities"], json.loads(str(saved["numbers"]))
        place = Path(folder).parent / UNCERTAINTY
        for (region, part), probability in zip(
            region_folders(self.regions).items(), self._full_size(probabilities, properties), strict=True
        ):
            unfinished = str(Path(folder, name))
            self.write_whole(np.rint(100 * entropy(probability)).astype(np.uint8), unfinished, properties)
            (place / part).mkdir(parents=True, exist_ok=True)
            os.replace(unfinished, place / part / name)
            numbers[region]["map"] = f"{UNCERTAINTY}/{part}/{name}"
        unfinished = str(Path(folder, stem + ".json"))
        Path(unfinished).write_text(json.dumps(numbers, indent=2) + "\n")
        os.replace(unfinished, numbers_file(str(Path(folder).parent / stem)))
        file.unlink()

    def _full_size(self, probabilities: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
        """Probabilities ``[R, z, y, x]`` in the geometry of the images, by nnU-Net's way back for logits."""
        regions = {name: [index, len(self.regions) + 1] for index, name in enumerate(self.regions, 1)}
        order = list(range(1, len(self.regions) + 1))
        as_they_are = LabelManager({"background": 0, **regions}, order, inference_nonlin=lambda logits: logits)
        result: np.ndarray = convert_predicted_logits_to_segmentation_with_correct_shape(
            probabilities.astype(np.float32),
            PlansManager(dict(self.plans)),
            ConfigurationManager(dict(self.configuration)),
            as_they_are,
            properties,
            return_probabilities=True,
        )[1]
        return result


class UncertaintyPlans(CompletingPlans):
    """Plans whose reader and writer is :class:`UncertaintyIO`.

    Args:
        model: whose plans they are.
        configuration: content of the model's configuration.
        regions: that there are probabilities of, in their order.
    """

    def __init__(self, model: TrainedModel, configuration: Mapping[str, Any], regions: tuple[str, ...]) -> None:
        super().__init__(model.plans.content, model.dataset_json.file_ending)
        self.configuration, self.regions = configuration, regions

    @property
    def image_reader_writer_class(self) -> partial[CompletingIO]:
        """What makes a reader and writer when called without arguments."""
        planned, ending, turned_to = super().image_reader_writer_class.args
        return partial(UncertaintyIO, planned, ending, turned_to, self.plans, self.configuration, self.regions)
