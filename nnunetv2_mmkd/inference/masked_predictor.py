"""nnU-Net's predictor for models of this package: the mask of each case reaches every call of the network.

Only nnU-Net's hooks are overridden: the mask travels with the case's properties through nnU-Net's iterators, and every
call of the network gets it as ``available``. Preprocessing, sliding window, mirroring, ensembling and export stay
nnU-Net's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunetv2_mmkd.chatter import without_chatter
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.arrays import complete_array
from nnunetv2_mmkd.inference.model_check import check_loadable
from nnunetv2_mmkd.inference.model_folder import ModelDescription, TrainedModel, check_model
from nnunetv2_mmkd.inference.reader import AVAILABLE_KEY, completing_plans
from nnunetv2_mmkd.inference.selection import excluded_modalities
from nnunetv2_mmkd.modalities import mask_of
from nnunetv2_mmkd.networks.experts import GatedExperts, by_region
from nnunetv2_mmkd.networks.finite import OUTPUT
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.nnunet_json import check_dataset_json, check_plans
from nnunetv2_mmkd.precision import autocast


class MaskedPredictor(nnUNetPredictor):
    """``nnUNetPredictor`` that tells the network which modalities a case has.

    Attributes:
        modalities: names of the model's M modalities, in channel order.
        subset: of a specialist, the modalities that it takes and needs; empty for a model for any subset.
        trained: the model's files.
        model: what predicts, for reports.
        gate: case -> region -> modality -> weight, of the cases predicted so far with a network that weighs its
            modalities.

    Args:
        *args: as for ``nnUNetPredictor``.
        missing: names of modalities to leave out in all cases.
        available: names of the only modalities to use.
        **kwargs: as for ``nnUNetPredictor``.
    """

    plans_manager: PlansManager
    allowed_mirroring_axes: tuple[int, ...] | None
    dataset_json: dict[str, Any]
    network: Any
    trained: TrainedModel

    def __init__(
        self,
        *args: Any,
        missing: str | Sequence[str] | None = None,
        available: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        with without_chatter():
            super().__init__(*args, **kwargs)
        self.modalities: tuple[str, ...] = ()
        self.subset: tuple[str, ...] = ()
        self.model = ModelDescription()
        self.gate: dict[str, dict[str, dict[str, float]]] = {}
        self._current: Tensor | None = None
        self._case = ""  # name of the one that is being predicted, if it has any
        self._sequence: Iterator[tuple[str, Tensor]] | None = None
        self.select(missing=missing, available=available)

    # ---- what the model has, and what of it may be used

    def initialize_from_trained_model_folder(
        self,
        model_training_output_dir: str,
        use_folds: Sequence[int | str] | str | int | None,
        checkpoint_name: str = "checkpoint_final.pth",
        *,
        trust: bool = False,
    ) -> None:
        """Load a trained model; see nnU-Net.

        Args:
            model_training_output_dir, use_folds, checkpoint_name: as for nnU-Net.
            trust: also load checkpoints that hold more than tensors and numbers. Loading such a file may run any code
                of its author's.

        Raises:
            InputError: files of the model or its trainer class are missing or damaged, a checkpoint needs trust, its
                weights are not finite, or the model is not one of ours.
        """
        folder = str(model_training_output_dir)
        if use_folds is None:
            with without_chatter():
                use_folds = self.auto_detect_available_folds(folder, checkpoint_name) if os.path.isdir(folder) else []
        folds = [use_folds] if isinstance(use_folds, (str, int)) else list(use_folds)
        check_model(folder, folds, checkpoint_name)
        self.model = check_loadable(folder, folds, checkpoint_name, trust=trust)
        with without_chatter():
            super().initialize_from_trained_model_folder(folder, tuple(folds), checkpoint_name)
        self.allowed_mirroring_axes = self.allowed_mirroring_axes or None  # nnU-Net takes the maximum of none
        self._adopt(folder)

    def manual_initialization(
        self,
        network: nn.Module,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        parameters: list[dict[str, Any]] | None,
        dataset_json: dict[str, Any],
        trainer_name: str,
        inference_allowed_mirroring_axes: tuple[int, ...] | None,
    ) -> None:
        """Take over a network that is in memory; see nnU-Net."""
        super().manual_initialization(
            network, plans_manager, configuration_manager, parameters, dataset_json, trainer_name,
            inference_allowed_mirroring_axes,
        )  # fmt: skip
        self.model = ModelDescription(trainer=trainer_name)
        self._adopt(trainer_name)

    def _adopt(self, name: str) -> None:
        network = getattr(self.network, "_orig_mod", None)
        if isinstance(network, MultiStreamUNet):  # compiled by nnU-Net as a whole, in which gathering breaks the graph
            network.compile_parts()
            self.network = network
        trained = TrainedModel(name, check_plans(self.plans_manager.plans), check_dataset_json(self.dataset_json))
        self.trained, self.modalities, self.subset = trained, trained.modalities, trained.subset
        self.plans_manager = completing_plans(trained)
        self.excluded()  # unknown names are refused now, not at the first case

    def select(
        self, *, missing: str | Sequence[str] | None = None, available: str | Sequence[str] | None = None
    ) -> None:
        """Narrow the modalities of all cases from now on; without arguments, lift that.

        Args:
            missing: names or aliases to leave out.
            available: names or aliases of the only ones to use.

        Raises:
            InputError: an unknown name, or nothing would be left.
        """
        self._missing, self._available = missing, available
        if self.modalities:
            self.excluded()  # unknown names are refused now, not at the first case

    def excluded(self) -> dict[str, str]:
        """The modalities that are left out of all cases, and why.

        Raises:
            InputError: an unknown name, nothing would be left, or less than a specialist needs.
        """
        return excluded_modalities(self.modalities, self.subset, missing=self._missing, available=self._available)

    # ---- arrays and iterators

    def predict_single_npy_array(
        self,
        input_image: np.ndarray,
        image_properties: dict[str, Any],
        segmentation_previous_stage: np.ndarray | None = None,
        output_file_truncated: str | None = None,
        save_or_return_probabilities: bool = False,
    ) -> Any:
        """Predict one case from an array ``[M, z, y, x]``; see nnU-Net.

        Missing are the channels that ``image_properties["mmkd_available"]`` (list of bool) says, that the selection
        excludes, or that are all zero. Their content does not matter.
        """
        image, properties = complete_array(input_image, image_properties, self.modalities, self.excluded(), self.subset)
        self._current = torch.tensor(properties[AVAILABLE_KEY])
        try:
            return super().predict_single_npy_array(
                image, properties, segmentation_previous_stage, output_file_truncated, save_or_return_probabilities
            )
        finally:
            self._current = None

    def get_data_iterator_from_raw_npy_data(
        self,
        image_or_list_of_images: np.ndarray | list[np.ndarray],
        segs_from_prev_stage_or_list_of_segs_from_prev_stage: np.ndarray | list[np.ndarray] | None,
        properties_or_list_of_properties: dict[str, Any] | list[dict[str, Any]],
        truncated_ofname: str | list[str] | None,
        num_processes: int = 3,
    ) -> Iterator[dict[str, Any]]:
        """Preprocess arrays in the background; see nnU-Net, and :meth:`predict_single_npy_array` for the masks."""
        images = image_or_list_of_images if isinstance(image_or_list_of_images, list) else [image_or_list_of_images]
        properties = properties_or_list_of_properties
        properties = properties if isinstance(properties, list) else [properties]
        excluded = self.excluded()
        pairs = [
            complete_array(*pair, self.modalities, excluded, self.subset)
            for pair in zip(images, properties, strict=True)
        ]
        result: Iterator[dict[str, Any]] = super().get_data_iterator_from_raw_npy_data(
            [image for image, _ in pairs], segs_from_prev_stage_or_list_of_segs_from_prev_stage,
            [props for _, props in pairs], truncated_ofname, num_processes,
        )  # fmt: skip
        return result

    def predict_from_data_iterator(
        self,
        data_iterator: Iterable[dict[str, Any]],
        save_probabilities: bool = False,
        num_processes_segmentation_export: int = default_num_processes,
    ) -> list[Any]:
        """Predict preprocessed cases; see nnU-Net. The mask is ``data_properties["mmkd_available"]`` of each item."""
        try:
            result: list[Any] = super().predict_from_data_iterator(
                self._follow(data_iterator), save_probabilities, num_processes_segmentation_export
            )
            return result
        finally:
            self._current, self._case = None, ""
            if isinstance(data_iterator, MultiThreadedAugmenter):
                data_iterator._finish()

    def _follow(self, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Hand on the items, and remember the mask of the one that is being predicted."""
        for item in items:
            available = item["data_properties"].get(AVAILABLE_KEY)
            self._current = None if available is None else torch.tensor(available)
            self._case = os.path.basename(item["ofile"] or "")
            yield item

    # ---- the network

    def predict_logits_from_preprocessed_data(self, data: Tensor) -> Tensor:
        """Logits of one preprocessed case ``[M, *spatial]``; see nnU-Net.

        Raises:
            InputError: they are NaN or infinite.
        """
        if self._sequence is not None:
            self._case, self._current = next(self._sequence)
        try:
            result: Tensor = super().predict_logits_from_preprocessed_data(data)
            self._check_output(result)
            self._note_gate()
        except RuntimeError as error:
            if "Encountered inf" not in str(error):
                raise
            raise InputError(self._of_case(OUTPUT)) from error
        except InputError as error:
            raise InputError(self._of_case(str(error))) from error
        return result

    def predict_sliding_window_return_logits(self, input_image: Tensor) -> Tensor:
        """As nnU-Net; on a CPU in the precision that is asked for."""
        with autocast(self.device):
            result: Tensor = super().predict_sliding_window_return_logits(input_image)
            return result

    def _note_gate(self) -> None:
        """Keep what a gate has said of the case, a mean over its tiles and all that was averaged."""
        found = [module for module in self.network.modules() if isinstance(module, GatedExperts)]
        weights = found[0].take_weights() if found else None
        if weights is not None:
            self.gate[self._case] = by_region(weights, _heads(self.dataset_json["labels"]), self.modalities)

    def _check_output(self, logits: Tensor) -> None:
        if not torch.isfinite(logits).all():
            raise InputError(OUTPUT)

    def _of_case(self, message: str) -> str:
        return f"case {self._case}: {message}; nothing was written for this case" if self._case else message

    def _internal_maybe_mirror_and_predict(self, x: Tensor) -> Tensor:
        network, mask = self.network, self._current
        if mask is None and self.excluded():  # data of unknown origin: the network looks for itself unless told
            mask = mask_of(self.modalities, missing=self.excluded())
        if mask is not None:
            self.network = partial(network, available=mask)  # works for compiled and distributed networks, too
        try:
            result: Tensor = super()._internal_maybe_mirror_and_predict(x)
            return result
        finally:
            self.network = network


def _heads(labels: Mapping[str, Any]) -> list[str]:
    """Names of what the heads are for, without the background: regions as listed, classes by their number."""
    names = [name for name, value in labels.items() if name != "ignore" and value not in (0, [0])]
    if any(isinstance(labels[name], list | tuple) and len(labels[name]) > 1 for name in names):
        return names
    return sorted(names, key=lambda name: int(np.ravel(labels[name])[0]))
