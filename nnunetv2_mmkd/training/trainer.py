"""The base trainer: a network, a method and a subset law become an nnU-Net trainer.

Legend: B batch, M modalities.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import join, save_json
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_mmkd.evaluation.card import CARD_KEY as CARD
from nnunetv2_mmkd.evaluation.card import carried
from nnunetv2_mmkd.methods.base import (
    Batch,
    ExtraNetwork,
    LocalLoss,
    MembershipClasses,
    Method,
    MissingRates,
    NextMetaBatch,
    SingleModalityDice,
    TrainingContext,
)
from nnunetv2_mmkd.methods.modality_dropout import ModalityDropout
from nnunetv2_mmkd.modalities import FULL, ModalityDropoutConfig, SubsetSampler
from nnunetv2_mmkd.networks.from_plans import early_fusion
from nnunetv2_mmkd.networks.masking import MISSING_VARIABLE
from nnunetv2_mmkd.nnunet_json import check_dataset_json
from nnunetv2_mmkd.training import gradients
from nnunetv2_mmkd.training.cases import CasesMixin
from nnunetv2_mmkd.training.checkpoint import CheckpointMixin
from nnunetv2_mmkd.training.election import ElectionMixin, task_labels
from nnunetv2_mmkd.training.online_validation import OnlineValidationMixin
from nnunetv2_mmkd.training.optimizer import AdamWConfig
from nnunetv2_mmkd.training.seeding import SeedMixin
from nnunetv2_mmkd.training.target_classes import membership_classes

CLIP = 12.0
"""Norm to which nnU-Net clips gradients."""


class nnUNetTrainerMMKD(SeedMixin, OnlineValidationMixin, CheckpointMixin, ElectionMixin, CasesMixin, nnUNetTrainer):
    """An ``nnUNetTrainer`` for any subset of the modalities. Variants choose; they do not implement.

    nnU-Net's planning, augmentation, optimiser, schedule, logging, checkpoints, export and validation stay as they
    are. Added are: the availability mask of each batch (the case's own, narrowed by the subset law on the device,
    after augmentation), a method that computes the loss, curves of what it learns (``mmkd_progress.png``), and one key
    ``mmkd`` in the checkpoint. A user's own variant::

        class nnUNetTrainerMine(nnUNetTrainerMMKD):
            modality_dropout = ModalityDropoutConfig("bernoulli", p=0.3)

    Attributes:
        modality_dropout: distribution of the subsets in training.
        incomplete_dropout: the distribution where training cases lack modalities (by ``missing_modalities`` or a
            missing-rate table), if it is another: imperfect data training in the sense of PASSION is
            ``ModalityDropoutConfig("full")``, nothing more is dropped.
        target_dropout: distribution of the online validation, if it is another (None: the training's for complete
            cases).
        full_modality_warmup: share of the iterations trained without dropping, in long runs.
        warmup_from_iterations: shorter runs have no warm-up.
        compiles_whole_network: whether ``torch.compile`` may wrap the network (its ``forward`` is all that is called).
        adamw: another optimiser than nnU-Net's SGD (:class:`~nnunetv2_mmkd.training.optimizer.AdamWConfig`);
            None keeps nnU-Net's. nnU-Net's schedule holds for both.
        seed: of the subset sampler.
        suffix_epochs: set by the ending ``_<N>epochs`` of the class's name, else None.
        suffix_iterations: set by ``_<K>iters``; K / 5 iterations for validation.
        suffix_table: set by ``_<tag>``: the missing-rate table that masks the training cases.
        suffix_seed: set by ``_seed<N>``: seeds the whole training (:mod:`~nnunetv2_mmkd.training.seeding`).
    """

    modality_dropout: ModalityDropoutConfig = ModalityDropoutConfig("uniform", per="sample")
    incomplete_dropout: ModalityDropoutConfig | None = None
    target_dropout: ModalityDropoutConfig | None = None
    full_modality_warmup: float = 0.0
    warmup_from_iterations: int = 10_000
    compiles_whole_network: bool = True
    adamw: AdamWConfig | None = None
    seed: int = 12345
    dataset_json: dict[str, Any]
    is_ddp: bool
    suffix_epochs: int | None = None
    suffix_iterations: int | None = None
    suffix_table: str | None = None
    suffix_seed: int | None = None

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        checked = check_dataset_json(dataset_json)
        self.modalities = checked.modalities
        self.plans_manager.plans["mmkd"] = self.plans_entry(
            self.modalities, exclusive=not self.label_manager.has_regions
        )
        self.apply_suffixes()
        if os.environ.pop(MISSING_VARIABLE, ""):
            self.print_to_log_file(
                f"WARNING: the environment variable {MISSING_VARIABLE} is for prediction; it is ignored in training"
            )
        incomplete = self.suffix_table is not None or bool(checked.missing)
        if incomplete and self.incomplete_dropout is not None:
            self.target_dropout = self.target_dropout or self.modality_dropout
            self.modality_dropout = self.incomplete_dropout
        self.method = self.build_method()
        self.sampler = SubsetSampler(self.modality_dropout, self.seed + self.local_rank, self.modalities)
        self.mmkd_iteration = 0

    # -- what variants choose ----------------------------------------------------------------------------------------

    def build_method(self) -> Method:
        """The training objective."""
        return ModalityDropout()

    @classmethod
    def plans_entry(cls, modalities: Sequence[str], exclusive: bool = True) -> dict[str, Any]:
        """What the network needs to know, kept in ``plans["mmkd"]``.

        Args:
            modalities: names.
            exclusive: whether the heads are classes, one for each voxel (softmax), not regions (sigmoid).

        Returns:
            an entry ``"network"``, if there is one, holds further arguments of :meth:`build_network`.
        """
        return {"modalities": list(modalities), "exclusive": exclusive}

    @classmethod
    def build_network(
        cls,
        configuration: ConfigurationManager,
        modalities: Sequence[str],
        heads: int,
        deep_supervision: bool,
        exclusive: bool = True,
    ) -> nn.Module:
        """A network with ``forward(x, available=None)``. Here: the stock planned one, early fusion."""
        return early_fusion(configuration, modalities, heads, deep_supervision)

    # -- nnU-Net's hooks ---------------------------------------------------------------------------------------------

    def apply_suffixes(self) -> None:
        """Set the training length and the seed that the class's name asks for; checkpoints at sensible distances."""
        if self.suffix_seed is not None:
            self.seed = self.suffix_seed
        if self.suffix_epochs is not None:
            self.num_epochs = self.suffix_epochs
        if self.suffix_iterations is not None:
            self.num_iterations_per_epoch = self.suffix_iterations
            self.num_val_iterations_per_epoch = max(1, self.suffix_iterations // 5)
        self.save_every = min(50, max(1, self.num_epochs // 10))

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Called by nnU-Net in training and prediction; the names of the modalities come with the plans."""
        entry = plans_manager.plans["mmkd"]
        return cls.build_network(
            configuration_manager,
            tuple(entry["modalities"]),
            num_output_channels,
            enable_deep_supervision,
            entry.get("exclusive", True),  # models of earlier versions have no use for it
            **entry.get("network", {}),
        )

    def initialize(self) -> None:
        """As nnU-Net, then set up the method and its own modules.

        Raises:
            NotImplementedError: cascades.
        """
        if self.is_cascaded or self.configuration_manager.next_stage_names:
            raise NotImplementedError(
                f"the configuration {self.configuration_name} belongs to a cascade; trainers of this package do not "
                "support cascades, because the previous stage would need its own subset. Train 2d or 3d_fullres"
            )
        super().initialize()
        if any("CTNormalization" in scheme for scheme in self.configuration_manager.normalization_schemes):
            self.print_to_log_file(
                "WARNING: a channel is normalised as CT, so an all-zero image does not stay zero and missing "
                "modalities cannot be detected: name them at prediction (`mmkd predict`, or "
                f"{MISSING_VARIABLE} under nnUNetv2_predict)"
            )
        self.method.setup(
            TrainingContext(
                modalities=self.modalities,
                device=self.device,
                regions=tuple(task_labels(self.label_manager)),
                exclusive=not self.label_manager.has_regions,
                iterations=self.num_epochs * self.num_iterations_per_epoch,
                epochs=self.num_epochs,
                warmup_iterations=self.warmup_iterations,
                autocast=self.autocast,
                average=gradients.average,
                broadcast=gradients.broadcast,
                log=self.print_to_log_file,
                capabilities={
                    NextMetaBatch: self.next_meta_batch,
                    SingleModalityDice: self.single_modality_dice,
                    ExtraNetwork: self.make_network,
                    MissingRates: lambda: tuple(self.realised_missing_rates[name] for name in self.modalities),
                    MembershipClasses: partial(membership_classes, label_manager=self.label_manager),
                    LocalLoss: self.local_loss(),
                },
            )
        )
        for module in self.method.trainable():
            module.to(self.device)
            self.optimizer.add_param_group({"params": list(module.parameters())})
        gradients.broadcast(self.method.trainable())

    def configure_optimizers(self) -> tuple[Any, Any]:
        """nnU-Net's optimiser and schedule, or :attr:`adamw` with nnU-Net's schedule."""
        law = self.adamw
        if law is None:
            optimisers: tuple[Any, Any] = super().configure_optimizers()
            return optimisers
        self.initial_lr, self.weight_decay = law.rate, law.weight_decay
        optimizer = law.build(self.network.parameters())
        return optimizer, PolyLRScheduler(optimizer, law.rate, self.num_epochs)

    def local_loss(self) -> Any:
        """nnU-Net's task loss without exchange between ranks."""
        if not self.is_ddp:
            return self.loss
        self.is_ddp = False
        try:
            return self._build_loss()
        finally:
            self.is_ddp = True

    def make_network(self) -> nn.Module:
        """Another network from the same plans, on the device."""
        return self.build_network_architecture(
            self.plans_manager,
            self.configuration_manager,
            self.num_input_channels,
            self.label_manager.num_segmentation_heads,
            self.enable_deep_supervision,
        ).to(self.device)

    def _do_i_compile(self) -> bool:
        if not self.compiles_whole_network and "nnUNet_compile" not in os.environ:
            return False
        return super()._do_i_compile()

    @property
    def bare_network(self) -> nn.Module:
        """The network that methods get: without DDP's wrapper, and without the compiler's unless it compiles whole."""
        network: Any = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        if isinstance(network, OptimizedModule) and not self.compiles_whole_network:
            network = network._orig_mod
        return network

    @property
    def warmup_iterations(self) -> int:
        """Length of the full-modality warm-up."""
        total = self.num_epochs * self.num_iterations_per_epoch
        return int(self.full_modality_warmup * total) if total >= self.warmup_from_iterations else 0

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which nnU-Net runs the network."""
        return torch.autocast(self.device.type, enabled=True) if self.device.type == "cuda" else nullcontext()

    def on_train_start(self) -> None:
        """As nnU-Net, keeping the other folds' performance cards; then tell what this run is."""
        trained_on = self.current_epoch < self.num_epochs
        card = carried(self.output_folder_base, self.fold if trained_on else None)
        dataset_json: dict[str, Any] = {key: value for key, value in self.dataset_json.items() if key != CARD}
        self.dataset_json = {**dataset_json, CARD: card} if card else dataset_json
        super().on_train_start()
        self.method.begin()
        config = self.method.config
        described = {
            "trainer": type(self).__name__,
            "method": type(self.method).__name__,
            "config": asdict(config) if is_dataclass(config) and not isinstance(config, type) else None,
            "modalities": list(self.modalities),
            "modality_dropout": asdict(self.modality_dropout),
            "adamw": None if self.adamw is None else asdict(self.adamw),
            "warmup_iterations": self.warmup_iterations,
            "seed": self.suffix_seed,
            "training_cases": len(self.training_cases),
            "held_out": {self.method.held_out.kind: self.held_out_cases} if self.method.held_out else {},
            "realised_missing_rates": self.realised_missing_rates,
            "undeclared_missing": self.undeclared,
        }
        self.print_to_log_file("nnunetv2_mmkd:", described)
        if self.local_rank == 0:
            save_json(described, join(self.output_folder, "mmkd_config.json"), sort_keys=False)
        self.register_curves()

    def train_step(self, batch: dict) -> dict:
        """One step of the method under the subset law."""
        network = self.bare_network
        self.method.start_iteration(network, self.loss, self.mmkd_iteration)
        prepared = self.prepare(batch, self.training_present)
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.method.step(network, prepared, self.loss)["loss"]
        scaler = self.grad_scaler
        (loss if scaler is None else scaler.scale(loss)).backward()
        self._finish_gradients(network)
        if scaler is None:
            self._clip(network)
            self.optimizer.step()
        else:
            scaler.unscale_(self.optimizer)
            self._clip(network)
            scaler.step(self.optimizer)
            scaler.update()
        self.method.end_iteration(network, self.mmkd_iteration)
        self.mmkd_iteration += 1
        return {"loss": loss.detach().cpu().numpy()}

    def _finish_gradients(self, network: nn.Module) -> None:
        """Zero gradients for what the step left unused, then the average over the ranks."""
        joint = [parameter for module in self.method.trainable() for parameter in module.parameters()]
        optional: Callable[[], list[nn.Parameter]] = getattr(network, "optional_parameters", list)
        gradients.fill_missing([*optional(), *joint])
        gradients.average_gradients([*network.parameters(), *joint])

    def _clip(self, network: nn.Module) -> None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        for module in self.method.trainable():
            torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)

    def prepare(self, batch: dict, present: dict[str, Any], sampler: SubsetSampler | None = None) -> Batch:
        """Move a batch of nnU-Net's loaders to the device and draw its subsets.

        Args:
            batch: ``data``, ``target`` and ``keys`` (identifiers of the cases).
            present: case -> what it has, ``[M]``.
            sampler: None: the training law, or nothing dropped during the warm-up.
        """
        masks = torch.from_numpy(np.stack([present[str(key)] for key in batch["keys"]]))
        if sampler is None:
            sampler = self.sampler if self.mmkd_iteration >= self.warmup_iterations else FULL
        target = batch["target"]
        target = [self._to_device(t) for t in target] if isinstance(target, list) else self._to_device(target)
        return Batch(self._to_device(batch["data"]), sampler(masks), masks, target, self._valid(target))

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def _valid(self, target: Tensor | list[Tensor]) -> Tensor | None:
        """Where voxels count, ``[B, 1, *spatial]``; None without an ignore label."""
        if not self.label_manager.has_ignore_label:
            return None
        finest = target[0] if isinstance(target, list) else target
        if self.label_manager.has_regions:
            return ~finest[:, -1:].bool()
        return finest != self.label_manager.ignore_label

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """As nnU-Net, then the method's own."""
        super().on_train_epoch_end(train_outputs)
        self.method.end_epoch(self.bare_network, self.current_epoch)

    def on_epoch_end(self) -> None:
        """Log the method's curves before nnU-Net writes its checkpoints, draw them after."""
        self.log_curves()
        super().on_epoch_end()
        self.draw_curves()
