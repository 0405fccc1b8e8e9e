"""The base trainer: a network, a method and a modality dropout distribution become an nnU-Net trainer.

Legend: B batch, M modalities.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from batchgenerators.utilities.file_and_folder_operations import join, save_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_mmkd.files import replacing
from nnunetv2_mmkd.methods.base import Batch, Method, loss_of
from nnunetv2_mmkd.methods.modality_dropout import ModalityDropout
from nnunetv2_mmkd.methods.ranked import ranked
from nnunetv2_mmkd.modalities import FULL, ModalityDropoutConfig, SubsetSampler
from nnunetv2_mmkd.networks.finite import refuse_not_finite
from nnunetv2_mmkd.networks.from_plans import early_fusion
from nnunetv2_mmkd.networks.masking import MISSING_VARIABLE
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.networks.slabs import in_slabs
from nnunetv2_mmkd.nnunet_json import check_dataset_json
from nnunetv2_mmkd.precision import autocast, in_float32
from nnunetv2_mmkd.training import gradients, host, recipes, seeding
from nnunetv2_mmkd.training.batches import prepare_batch
from nnunetv2_mmkd.training.cases import TrainingCases, find_cases
from nnunetv2_mmkd.training.checkpoint import RunState
from nnunetv2_mmkd.training.context import training_context
from nnunetv2_mmkd.training.curve_log import CurveLog
from nnunetv2_mmkd.training.deployment import deploying
from nnunetv2_mmkd.training.description import described_run
from nnunetv2_mmkd.training.divergence import check_epoch
from nnunetv2_mmkd.training.held_out import held_out_loader, stop_loader
from nnunetv2_mmkd.training.online_validation import VALIDATION_SEED, OnlineValidation
from nnunetv2_mmkd.training.optimizer import AdamWConfig
from nnunetv2_mmkd.training.suffixes import Ending, Endings, refuse_ambiguous
from nnunetv2_mmkd.workers import forked_workers


class nnUNetTrainerMMKD(nnUNetTrainer):
    """An ``nnUNetTrainer`` for any subset of the modalities. Variants choose; they do not implement.

    nnU-Net's planning, augmentation, optimiser, schedule, logging, checkpoints, export and validation stay as they
    are. Added are: the availability mask of each batch (the case's own, narrowed by modality dropout on the device,
    after augmentation), a method that computes the loss, curves of what it learns (``mmkd_progress.png``), and one key
    ``mmkd`` in the checkpoint. A user's own variant::

        class nnUNetTrainerMine(nnUNetTrainerMMKD):
            modality_dropout = ModalityDropoutConfig("bernoulli", p=0.3)

    Attributes:
        method_class: the training objective.
        config: its hyper-parameters; None in objectives without any.
        modality_dropout: distribution of the subsets in training.
        incomplete_dropout: the distribution where training cases lack modalities (by ``missing_modalities`` or a
            missing-rate table), if it is another: imperfect data training in the sense of PASSION is
            ``ModalityDropoutConfig("full")``, nothing more is dropped.
        target_dropout: distribution of the online validation; None: the training's for complete cases.
        full_modality_warmup: share of the iterations trained without dropping, in long runs.
        warmup_from_iterations: shorter runs have no warm-up.
        compiles_whole_network: whether ``torch.compile`` may wrap the network (its ``forward`` is all that is called).
        adamw: another optimiser than nnU-Net's SGD (:class:`~nnunetv2_mmkd.training.optimizer.AdamWConfig`);
            None keeps nnU-Net's. nnU-Net's schedule holds for both.
        recipe: a paper's optimiser, schedule, length and loss; ``adamw`` and lengths in the name go before it.
        ranking: weight of SimMLM's ranking loss, which is added to any method; 0: none.
        seed: of the subset sampler.
        endings, suffix_endings: what else the name can end in (:mod:`nnunetv2_mmkd.training.suffixes`), and ends in.
        suffix_epochs, suffix_iterations: set by ``_<N>epochs`` and ``_<K>iters``; K / 5 iterations for validation.
        suffix_table: set by ``_<tag>``: the missing-rate table that masks the training cases.
        suffix_seed: set by ``_seed<N>``: seeds the whole training (:mod:`~nnunetv2_mmkd.training.seeding`).
    """

    method_class: type[Any] = ModalityDropout
    config: Any = None
    modality_dropout: ModalityDropoutConfig = ModalityDropoutConfig("uniform", per="sample")
    incomplete_dropout: ModalityDropoutConfig | None = None
    target_dropout: ModalityDropoutConfig | None = None
    full_modality_warmup: float = 0.0
    warmup_from_iterations: int = 10_000
    compiles_whole_network: bool = True
    adamw: AdamWConfig | None = None
    recipe: recipes.TrainingRecipe | None = None
    ranking: float = 0.0
    seed: int = 12345
    endings: ClassVar[Endings] = {
        "_ranking": Ending("SimMLM's ranking loss: more modalities are not worse than fewer", trainer={"ranking": 0.1}),
        "_metakdrecipe": Ending("the training of MetaKD and LCKD, for comparisons", trainer={"recipe": recipes.METAKD}),
        "_passionrecipe": Ending("the training of PASSION, for comparisons", trainer={"recipe": recipes.PASSION}),
        "_mstkdnetrecipe": Ending("the training of MST-KDNet, for comparisons", trainer={"recipe": recipes.MST_KDNET}),
    }
    suffix_endings: tuple[str, ...] = ()
    suffix_epochs: int | None = None
    suffix_iterations: int | None = None
    suffix_table: str | None = None
    suffix_seed: int | None = None

    network: Any
    dataset_class: Any
    dataset_json: dict[str, Any]
    is_ddp: bool
    run: RunState  # what a checkpoint holds besides nnU-Net's state
    curves: CurveLog
    cases: TrainingCases  # known from the start of the training on
    online_validation: OnlineValidation
    dataloader_meta: Any = None

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        checked = check_dataset_json(dataset_json)
        refuse_ambiguous(type(self), self.preprocessed_dataset_folder_base or "")
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
        self.run = RunState(self.method, self.sampler, self.local_rank)

    def build_method(self) -> Method[Any]:
        """The training objective: :attr:`method_class` of :attr:`config`."""
        kind = ranked(self.method_class, self.ranking) if self.ranking else self.method_class
        method: Method[Any] = kind() if self.config is None else kind(self.config)
        return method

    @classmethod
    def plans_entry(cls, modalities: Sequence[str], exclusive: bool = True) -> dict[str, Any]:
        """What the network needs to know, kept in ``plans["mmkd"]``.

        Args:
            modalities: names.
            exclusive: whether the heads are classes, one for each voxel (softmax), not regions (sigmoid).

        Returns:
            an entry ``"network"``, if there is one, becomes the ``options`` of the request for a network.
        """
        return {"modalities": list(modalities), "exclusive": exclusive}

    @classmethod
    def build_network(cls, request: NetworkRequest) -> nn.Module:
        """A network with ``forward(x, available=None)``. Here: the stock planned one, early fusion."""
        return early_fusion(request)

    def apply_suffixes(self) -> None:
        """Set the training length and the seed that the class's name asks for; checkpoints at sensible distances."""
        if self.suffix_seed is not None:
            self.seed = self.suffix_seed
        epochs, iterations = recipes.lengths(self.recipe, self.suffix_epochs, self.suffix_iterations)
        if epochs is not None:
            self.num_epochs = epochs
        if iterations is not None:
            self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = iterations, max(1, iterations // 5)
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
        request = NetworkRequest.from_plans(
            plans_manager, configuration_manager, num_output_channels, enable_deep_supervision
        )
        return refuse_not_finite(in_slabs(cls.build_network(request)))

    def initialize(self) -> None:
        """As nnU-Net, then set up the method and its own modules.

        Raises:
            NotImplementedError: cascades.
        """
        host.prepare(self)
        seeding.seed_start(self.suffix_seed)
        super().initialize()
        host.warn_of_ct(self)
        self.method.setup(
            training_context(
                self,
                self.method,
                self.modalities,
                warmup_iterations=self.warmup_iterations,
                cases=lambda: self.cases,
                network=lambda: self.bare_network,
                next_meta_batch=self.next_meta_batch,
            )
        )
        self.curves = CurveLog(self, self.method.curve_names())
        for module in self.method.trainable():
            in_slabs(module.to(self.device))
            self.optimizer.add_param_group({"params": list(module.parameters())})
        gradients.broadcast(self.method.trainable())

    def configure_optimizers(self) -> tuple[Any, Any]:
        """nnU-Net's, unless :attr:`adamw` or :attr:`recipe` has others."""
        return recipes.optimizers(self.recipe, self.adamw, self)

    def _build_loss(self) -> nn.Module:
        kind = "nnunet" if self.recipe is None else self.recipe.loss
        return in_float32(recipes.task_loss(kind, super()._build_loss()), self.device)

    def _do_i_compile(self) -> bool:
        wanted = self.compiles_whole_network or "nnUNet_compile" in os.environ
        return wanted and bool(super()._do_i_compile())

    @property
    def bare_network(self) -> nn.Module:
        """The network that methods get: without DDP's wrapper, and without the compiler's unless it compiles whole."""
        bare: nn.Module = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        if isinstance(bare, OptimizedModule) and not self.compiles_whole_network:
            return bare._orig_mod
        return bare

    @property
    def trained_module(self) -> Any:
        """The network without the compiler's wrapper either: its keys are nnU-Net's."""
        return getattr(self.bare_network, "_orig_mod", self.bare_network)

    def deployed_weights(self) -> AbstractContextManager[bool]:
        """A context in which the network has the weights that the method deploys."""
        return deploying(self.method.deployed(self.trained_module), self.trained_module)

    @property
    def warmup_iterations(self) -> int:
        """Length of the full-modality warm-up."""
        total = self.num_epochs * self.num_iterations_per_epoch
        return int(self.full_modality_warmup * total) if total >= self.warmup_from_iterations else 0

    def run_training(self) -> None:
        """As nnU-Net; no worker outlives this process."""
        with forked_workers():
            super().run_training()

    def on_train_start(self) -> None:
        """As nnU-Net, keeping the other folds' performance cards; then tell what this run is."""
        host.complete_metadata(self)
        seeding.seed_epoch(self.suffix_seed, self.local_rank, self.current_epoch)
        super().on_train_start()
        self.run.restore_random_state()  # the loaders' first batches have drawn
        self.method.begin()
        self.describe_run()
        self.curves.register(self.method)

    def describe_run(self) -> None:
        """Log what this run is, and write it to ``mmkd_config.json``."""
        described = described_run(self, self.cases)
        self.print_to_log_file("nnunetv2_mmkd:", described)
        recipes.warn_of_plan(self)
        if self.local_rank == 0:
            save_json(described, join(self.output_folder, "mmkd_config.json"), sort_keys=False)

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """As nnU-Net, without the held-out cases among those trained on."""
        training, validation = super().get_tr_and_val_datasets()
        self.cases = find_cases(
            self,
            training.identifiers,
            validation.identifiers,
            self.modalities,
            held_out=self.method.held_out,
            table_tag=self.suffix_table,
            table_at_start=self.run.missing_table,
        )
        self.run.missing_table = self.cases.missing_table
        if self.method.held_out is not None:
            training = self.dataset_class(self.preprocessed_dataset_folder, self.cases.training)
        return training, validation

    def get_dataloaders(self) -> tuple[Any, Any]:
        """As nnU-Net, and a loader of the meta split with the augmentation of training."""
        training, validation = super().get_dataloaders()
        if self.method.needs_meta_split:
            self.dataloader_meta = held_out_loader(self, training, self.cases.held_out)
        return training, validation

    def next_meta_batch(self) -> Batch:
        """A batch of the meta split with all modalities that its cases have."""
        return self.prepare(next(self.dataloader_meta), self.cases.training_present, FULL)

    def on_epoch_start(self) -> None:
        """As nnU-Net, seeded if the trainer's name asks for it."""
        seeding.seed_epoch(self.suffix_seed, self.local_rank, self.current_epoch)
        super().on_epoch_start()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One step of the method under modality dropout."""
        network = self.bare_network
        self.method.start_iteration(network, self.loss, self.run.iteration)
        prepared = self.prepare(batch, self.cases.training_present)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device):
            loss = loss_of(self.method, self.method.step(network, prepared, self.loss))
        gradients.take_step(loss, self.optimizer, self.grad_scaler, network, self.method.trainable())
        self.method.end_iteration(network, self.run.iteration)
        self.run.iteration += 1
        return {"loss": loss.detach().cpu().numpy()}

    def prepare(self, batch: dict[str, Any], present: dict[str, Any], sampler: SubsetSampler | None = None) -> Batch:
        """Move a batch of nnU-Net's loaders to the device and draw its subsets.

        Args:
            batch: ``data``, ``target`` and ``keys`` (identifiers of the cases).
            present: case -> what it has, ``[M]``.
            sampler: None: modality dropout as trained with, or nothing dropped during the warm-up.
        """
        if sampler is None:
            self.sampler.progress = self.run.iteration / (self.num_epochs * self.num_iterations_per_epoch)
            sampler = self.sampler if self.run.iteration >= self.warmup_iterations else FULL
        return prepare_batch(self, batch, present, sampler)

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """As nnU-Net, then the method's own; an ``InputError`` if the training has diverged."""
        super().on_train_epoch_end(train_outputs)
        check_epoch(self, train_outputs, [self.trained_module, *self.method.trainable()])
        self.method.end_epoch(self.bare_network, self.current_epoch)

    def on_validation_epoch_start(self) -> None:
        """As nnU-Net; the sequence of subsets starts anew."""
        super().on_validation_epoch_start()
        target = self.target_dropout or self.modality_dropout
        sampler = SubsetSampler(target, VALIDATION_SEED + self.local_rank, self.modalities)
        self.online_validation = OnlineValidation(sampler)

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's validation step of the deployed weights, under a drawn subset and with all modalities."""
        full = self.prepare(batch, self.cases.validation_present, FULL).available
        with self.deployed_weights():
            return self.online_validation.step(batch, full, self._validate)

    def _validate(self, batch: dict[str, Any], available: Tensor) -> dict[str, Any]:
        network, self.network = self.network, partial(self.bare_network, available=available)
        try:
            with autocast(self.device):
                return dict(super().validation_step(batch))
        finally:
            self.network = network

    def on_epoch_end(self) -> None:
        """Log the method's curves before nnU-Net writes its checkpoints, draw them after."""
        self.curves.log(self.online_validation.full_dice(), self.method.curves())
        super().on_epoch_end()
        self.curves.draw()

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint of the deployed weights, and our state; written under a temporary name, then renamed."""
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        with replacing(Path(filename)) as temporary:
            with self.deployed_weights() as others:
                super().save_checkpoint(str(temporary))
            self.run.add_to(temporary, self.trained_module if others else None)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Restore nnU-Net's state and ours; an ``InputError`` if :meth:`RunState.restoring` refuses the checkpoint."""
        with self.run.restoring(filename_or_checkpoint) as checkpoint:  # first: nnU-Net would run what is in it
            super().load_checkpoint(filename_or_checkpoint)
            self.run.load(checkpoint, self.trained_module, self.optimizer)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's validation of the deployed weights, with all modalities that each case has: the others are zero."""
        self.print_to_log_file("The final validation uses all modalities that each case has, nothing is dropped.")
        with host.final_validation(self, self.modalities), self.deployed_weights() as others:
            if others:
                self.print_to_log_file(f"It uses the weights that {type(self.method).__name__} deploys.")
            super().perform_actual_validation(save_probabilities)

    def on_train_end(self) -> None:
        """As nnU-Net, and stop the meta split's workers."""
        super().on_train_end()
        stop_loader(self.dataloader_meta)
