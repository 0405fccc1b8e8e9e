"""``mmkd predict --uncertainty``: a map for each region, and how sure the segmentation of each case is.

nnU-Net's sliding window averages whatever a network returns over mirrorings, windows and folds. So the network is asked
for the probabilities of the regions in addition to its heads: their mean costs R heads more, and no output of a single
pass is kept. The heads themselves, and with them the segmentation, stay what they are bit for bit.

Then the case is predicted once more without each of its modalities. A multi-stream network encodes each modality once
for all of these; any other is run once for each.

Legend: M modalities, K heads, R regions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.confidence import Mask, RegionConfidence, mean_probability, overlap
from nnunetv2_mmkd.evaluation.regions import evaluated_regions
from nnunetv2_mmkd.inference.all_subsets import AllSubsetsPredictor, Heads, MultiSubsetNetwork, uncompiled
from nnunetv2_mmkd.inference.job import PredictionJob
from nnunetv2_mmkd.inference.model_folder import TrainedModel
from nnunetv2_mmkd.inference.predictor import MMKDPredictor
from nnunetv2_mmkd.inference.uncertainty_maps import UncertaintyPlans, save_case
from nnunetv2_mmkd.label_names import heads_of
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet


@dataclass(frozen=True)
class Regions:
    """The regions of a model that have probabilities.

    Attributes:
        values: region -> the label values in it.
        heads: region -> the heads whose probabilities sum up to its own.
        overlapping: the heads are regions, each yes or no; else labels, of which each voxel has one.
    """

    values: Mapping[str, tuple[int, ...]]
    heads: Mapping[str, tuple[int, ...]]
    overlapping: bool

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability of each region, ``[B, R, *spatial]`` from ``[B, K, *spatial]``, in float32."""
        heads = logits.float().sigmoid() if self.overlapping else logits.float().softmax(1)
        return torch.stack([heads[:, list(of)].sum(1).clamp(max=1) for of in self.heads.values()], 1)

    def masks(self, labels: np.ndarray) -> dict[str, Mask]:
        """The regions in a label map."""
        return {name: np.isin(labels, values) for name, values in self.values.items()}


def regions_of(model: TrainedModel) -> Regions:
    """The evaluated regions of a model, as far as its heads give probabilities of them.

    Raises:
        InputError: of no region.
    """
    content = model.dataset_json.content
    labels = content["labels"]
    values = {name: value if isinstance(value, list | tuple) else [value] for name, value in labels.items()}
    overlapping = any(len(each) > 1 for each in values.values())
    if overlapping:
        order = [frozenset(each) for name, each in values.items() if name != "ignore" and set(each) != {0}]
    else:
        order = [frozenset([value]) for value in sorted({each[0] for name, each in values.items() if name != "ignore"})]
    regions = evaluated_regions(content)
    heads = {name: heads_of(frozenset(each), order) for name, each in regions.items()}
    known = {name: tuple(of) for name, of in heads.items() if of is not None}
    if not known:
        raise InputError(
            f"{model.folder}: --uncertainty needs probabilities of regions, and no head of the model is one of "
            f"{', '.join(regions)}; predict without it"
        )
    return Regions({name: regions[name] for name in known}, known, overlapping)


class RegionProbabilities(nn.Module):
    """A network whose output also has the probabilities of the regions.

    Args:
        network: ``forward(x, available)``.
        regions: of its heads.
    """

    def __init__(self, network: nn.Module, regions: Regions) -> None:
        super().__init__()
        self.network = network
        self.regions = regions

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load the weights of the network itself, as nnU-Net's predictor does between the folds of an ensemble."""
        return uncompiled(self.network).load_state_dict(state_dict, *args, **kwargs)

    def forward(self, x: Tensor, available: Tensor | None = None) -> Tensor:
        """``[B, K + R, *spatial]``: the heads, and behind them the probabilities."""
        output = self.network(x, available=available)
        logits: Tensor = output[0] if isinstance(output, list | tuple) else output
        return torch.cat([logits, self.regions.probabilities(logits).to(logits.dtype)], 1)


class UncertaintyPredictor(AllSubsetsPredictor, MMKDPredictor):
    """``MMKDPredictor`` that also says how sure each segmentation is: maps and numbers, in ``uncertainty/``.

    All numbers are computed on the grid of the network.
    """

    _outputs: Iterator[str] = iter(())  # where nnU-Net exports the next cases to, without ending

    def _adopt(self, name: str) -> None:
        super()._adopt(name)
        self.regions = regions_of(self.trained)
        self.plans_manager = UncertaintyPlans(
            self.trained, self.configuration_manager.configuration, tuple(self.regions.values)
        )

    def run(self, job: PredictionJob, preprocessing_processes: int = 0, export_processes: int = 0) -> list[Any] | None:
        """:meth:`MMKDPredictor.run`, with maps and numbers for each case that is written."""
        self._outputs = iter(job.partial_outputs() or ())
        try:
            return super().run(job, preprocessing_processes, export_processes)
        finally:
            self._outputs = iter(())

    def _follow(self, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for item in super()._follow(items):
            self._outputs = iter([item["ofile"]])
            yield item

    def predict_logits_from_preprocessed_data(self, data: Tensor) -> Tensor:
        """Logits of one preprocessed case; of one of a job, its probabilities and numbers are saved, too.

        Raises:
            InputError: they are NaN or infinite.
        """
        output = None if isinstance(self.network, MultiSubsetNetwork) else next(self._outputs, None)
        if output is None:
            return super().predict_logits_from_preprocessed_data(data)
        logits, probabilities = self.predict_probabilities(data)
        masks = self._masks(logits)
        without = self._left_out(data, masks)
        numbers = {
            name: RegionConfidence(
                mean_probability(probability, masks[name]),
                {modality: values[name] for modality, values in without.items()},
            )
            for name, probability in zip(self.regions.values, probabilities, strict=True)
        }
        save_case(output, probabilities, numbers)
        return logits

    def predict_probabilities(self, data: Tensor) -> tuple[Tensor, np.ndarray]:
        """Logits of one preprocessed case, and the mean probabilities of its regions.

        Returns:
            ``[K, *spatial]`` and ``[R, *spatial]``.

        Raises:
            InputError: they are NaN or infinite.
        """
        network, labels = self.network, self.label_manager
        count = labels.num_segmentation_heads
        self.network = RegionProbabilities(network, self.regions)
        self.label_manager = Heads(count + len(self.regions.values))
        try:
            result = super().predict_logits_from_preprocessed_data(data)
        finally:
            self.network, self.label_manager = network, labels
        return result[:count], result[count:].cpu().numpy()

    def _masks(self, logits: Tensor) -> dict[str, Mask]:
        return self.regions.masks(np.asarray(self.label_manager.convert_logits_to_segmentation(logits.cpu())))

    def _left_out(self, data: Tensor, masks: Mapping[str, Mask]) -> dict[str, dict[str, float | None]]:
        """Modality -> region -> overlap of the segmentation with that which is made without the modality."""
        present, case = self._current, self._case
        if present is None or self.subset or int(present.sum()) < 2:
            return {}
        names = [name for name, available in zip(self.modalities, present.tolist(), strict=True) if available]
        subsets = present & ~torch.eye(len(present), dtype=torch.bool)[present]
        together = isinstance(uncompiled(self.network), MultiStreamUNet)
        sequence, self._sequence = self._sequence, None  # it is for the cases of the job
        found: dict[str, dict[str, float | None]] = {}
        try:
            for group in [subsets] if together else subsets.split(1):
                for logits in self.predict_subsets(data, group, case):
                    other = self._masks(logits)
                    found[names[len(found)]] = {region: overlap(mask, other[region]) for region, mask in masks.items()}
        finally:
            self._sequence, self._current, self._case = sequence, present, case
        return found
