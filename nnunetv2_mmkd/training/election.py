"""What LCKD's teacher election asks of a trainer: held-out cases segmented with each modality alone.

Legend: L election cases, M modalities, K tasks (foreground regions or classes), H heads of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from numpy.typing import NDArray
from torch import Tensor, nn

from nnunetv2_mmkd.inference.all_subsets import AllSubsetsPredictor
from nnunetv2_mmkd.methods.election import round_robin


class InMemoryPredictor(AllSubsetsPredictor):
    """Predicts with the network as it stands; there are no parameters to load."""

    def predict_logits_from_preprocessed_data(self, data: Tensor) -> Tensor:
        """Logits of one preprocessed case; see nnU-Net."""
        return self.predict_sliding_window_return_logits(data)


class ElectionMixin(nnUNetTrainer):
    """Supplies a method with the Dice of single modalities on the election split.

    nnU-Net's sliding window goes over whole preprocessed cases, without mirroring; Dice is on the preprocessed grid.
    Each rank takes its share of the cases. Random states, training mode and deep supervision are as before
    afterwards, so that elections change nothing but the teachers.
    """

    modalities: tuple[str, ...]
    training_present: dict[str, NDArray[np.bool_]]
    held_out_cases: Sequence[str]
    dataset_class: Any
    _started: float = 0.0
    _election_seconds: float = 0.0

    @property
    def bare_network(self) -> nn.Module:
        """The network without wrappers."""
        raise NotImplementedError

    def on_train_start(self) -> None:
        """As nnU-Net; elections are reported as a share of the time from here."""
        super().on_train_start()
        self._started, self._election_seconds = perf_counter(), 0.0

    def single_modality_dice(self, *, number: int, most_cases: int, soft: bool, window_step: float) -> Tensor:
        """See :class:`~nnunetv2_mmkd.methods.base.SingleModalityDice`."""
        begun = perf_counter()
        tasks = task_labels(self.label_manager)
        cases = round_robin(self.held_out_cases, number, most_cases)
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
        rows: dict[str, Tensor] = {}
        with self._predicting(window_step) as predictor:
            for case in cases[rank::ranks]:
                rows[case] = self._dice_of_case(predictor, case, tasks, soft)
        rows = from_all_ranks(rows)
        table = torch.empty(0, len(self.modalities), len(tasks))
        if cases:
            table = torch.stack([rows[case] for case in cases])
        seconds = perf_counter() - begun
        self._election_seconds += seconds
        share = self._election_seconds / max(perf_counter() - self._started, 1e-9)
        self.print_to_log_file(
            f"{len(cases)} of {len(self.held_out_cases)} election cases segmented with each modality alone in "
            f"{seconds:.1f} s; elections so far are {share:.1%} of this run's time"
        )
        return table

    @contextmanager
    def _predicting(self, window_step: float) -> Iterator[InMemoryPredictor]:
        """The network ready to predict, and as it was before afterwards."""
        network: Any = self.bare_network
        training, supervised = network.training, network.decoder.deep_supervision
        network.decoder.deep_supervision = False
        predictor = InMemoryPredictor(
            tile_step_size=window_step,
            use_mirroring=False,
            perform_everything_on_device=self.device.type == "cuda",
            device=self.device,
            allow_tqdm=False,
        )
        predictor.manual_initialization(
            network, self.plans_manager, self.configuration_manager, None, self.dataset_json, type(self).__name__, None
        )
        try:
            yield predictor
        finally:
            network.decoder.deep_supervision = supervised
            network.train(training)

    def _dice_of_case(
        self, predictor: InMemoryPredictor, case: str, tasks: Mapping[str, tuple[int, ...]], soft: bool
    ) -> Tensor:
        """``[M, K]``, NaN where the case lacks the modality or the region."""
        data, segmentation, *_ = self.dataset_class(self.preprocessed_dataset_folder, [case]).load_case(case)
        there = np.flatnonzero(self.training_present[case]).tolist()
        alone = torch.eye(len(self.modalities), dtype=torch.bool)[there]
        logits = predictor.predict_subsets(torch.from_numpy(np.array(data[:])), alone)
        truth = torch.from_numpy(np.array(segmentation[:]))[0].to(self.device)
        dice = torch.full((len(self.modalities), len(tasks)), float("nan"))
        for modality, heads in zip(there, logits, strict=True):
            dice[modality] = dice_by_task(
                heads.to(self.device),
                truth,
                list(tasks.values()),
                regions=self.label_manager.has_regions,
                ignore=self.label_manager.ignore_label,
                soft=soft,
            )
        return dice


def task_labels(label_manager: Any) -> dict[str, tuple[int, ...]]:
    """Names and labels of the K tasks, in the order of the heads: foreground regions, or foreground classes."""
    names = {key: value for key, value in label_manager.label_dict.items() if key != "ignore"}
    if label_manager.has_regions:
        foreground = label_manager.foreground_regions
    else:
        foreground = label_manager.foreground_labels
    tasks = {}
    for labels in foreground:
        wanted = _as_tuple(labels)
        name = next((name for name, value in names.items() if _as_tuple(value) == wanted), str(labels))
        tasks[name] = wanted
    return tasks


def _as_tuple(labels: Any) -> tuple[int, ...]:
    return tuple(int(label) for label in labels) if isinstance(labels, (list, tuple)) else (int(labels),)


def dice_by_task(
    logits: Tensor,
    truth: Tensor,
    tasks: list[tuple[int, ...]],
    *,
    regions: bool,
    ignore: int | None = None,
    soft: bool = False,
) -> Tensor:
    """Dice of one prediction for each task; voxels with the ignore label are left out.

    Args:
        logits: ``[H, *spatial]``: a sigmoid head for each task, or a softmax over background and the tasks.
        truth: label map ``[*spatial]``.
        tasks: labels that make up each of the K tasks.
        regions: whether heads are sigmoid.
        ignore: the ignore label.
        soft: of probabilities, 1 added to numerator and denominator; otherwise of the segmentation: probabilities
            above 0.5, or the largest.

    Returns:
        ``[K]`` on the CPU, NaN where the case does not have the task's region.
    """
    values = logits.float()
    if regions:
        predicted = values.sigmoid() if soft else values > 0
    elif soft:
        predicted = values.softmax(0)[1:]
    else:
        winner = values.argmax(0)
        predicted = torch.stack([winner == head for head in range(1, len(values))])
    counts = torch.ones_like(truth, dtype=torch.bool) if ignore is None else truth != ignore
    dice = []
    for labels, each in zip(tasks, predicted, strict=True):
        wanted = counts & torch.isin(truth, torch.tensor(labels, device=truth.device, dtype=truth.dtype))
        volume = float(wanted.sum())
        if not volume:
            dice.append(float("nan"))
            continue
        overlap, size = float(each[wanted].sum()), float(each[counts].sum())
        dice.append((2 * overlap + soft) / (size + volume + soft))
    return torch.tensor(dice)


def from_all_ranks(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join what the ranks of a distributed run have; the same on all of them afterwards."""
    if not _distributed():
        return rows
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, rows)
    return {case: row for part in gathered for case, row in part.items()}


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
