"""For LCKD's teacher election: held-out cases segmented with each modality alone.

Legend: L election cases, M modalities, K tasks (foreground regions or classes), H heads of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from nnunetv2_mmkd.inference.all_subsets import AllSubsetsPredictor
from nnunetv2_mmkd.methods.election import round_robin
from nnunetv2_mmkd.training.cases import TrainingCases
from nnunetv2_mmkd.training.target_classes import task_labels


class InMemoryPredictor(AllSubsetsPredictor):
    """Predicts with the network as it stands; there are no parameters to load."""

    def predict_logits_from_preprocessed_data(self, data: Tensor) -> Tensor:
        """Logits of one preprocessed case; see nnU-Net."""
        result: Tensor = self.predict_sliding_window_return_logits(data)
        return result


class SingleModalityEvaluation:
    """Evaluates held-out cases with each of their modalities alone, for methods that ask for it.

    nnU-Net's sliding window goes over whole preprocessed cases, without mirroring; Dice is on the preprocessed grid.
    Each rank takes its share of the cases. Random states, training mode and deep supervision are as before
    afterwards, so that elections change nothing but the teachers.

    Args:
        host: the trainer.
        modalities: names of the channels.
        network: gives the bare network.
        cases: gives the cases of the fold.
    """

    def __init__(
        self,
        host: nnUNetTrainer,
        modalities: Sequence[str],
        network: Callable[[], Any],
        cases: Callable[[], TrainingCases],
    ) -> None:
        self.host, self.modalities, self.network, self.cases = host, modalities, network, cases
        self.tasks = task_labels(host.label_manager)
        self._started, self._seconds = perf_counter(), 0.0

    def __call__(self, *, number: int, most_cases: int, soft: bool, window_step: float) -> Tensor:
        """See :class:`~nnunetv2_mmkd.methods.base.SingleModalityDice`."""
        begun = perf_counter()
        held_out = self.cases().held_out
        cases = round_robin(held_out, number, most_cases)
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
        rows: dict[str, Tensor] = {}
        with self._predicting(window_step) as predictor:
            for case in cases[rank::ranks]:
                rows[case] = self._dice_of_case(predictor, case, soft)
        rows = from_all_ranks(rows)
        table = torch.empty(0, len(self.modalities), len(self.tasks))
        if cases:
            table = torch.stack([rows[case] for case in cases])
        seconds = perf_counter() - begun
        self._seconds += seconds
        share = self._seconds / max(perf_counter() - self._started, 1e-9)
        self.host.print_to_log_file(
            f"{len(cases)} of {len(held_out)} election cases segmented with each modality alone in "
            f"{seconds:.1f} s; elections so far are {share:.1%} of this run's time"
        )
        return table

    @contextmanager
    def _predicting(self, window_step: float) -> Iterator[InMemoryPredictor]:
        """The network ready to predict, and as it was before afterwards."""
        host, network = self.host, self.network()
        training, supervised = network.training, network.decoder.deep_supervision
        network.decoder.deep_supervision = False
        predictor = InMemoryPredictor(
            tile_step_size=window_step,
            use_mirroring=False,
            perform_everything_on_device=host.device.type == "cuda",
            device=host.device,
            allow_tqdm=False,
        )
        predictor.manual_initialization(
            network, host.plans_manager, host.configuration_manager, None, host.dataset_json, type(host).__name__, None
        )
        try:
            yield predictor
        finally:
            network.decoder.deep_supervision = supervised
            network.train(training)

    def _dice_of_case(self, predictor: InMemoryPredictor, case: str, soft: bool) -> Tensor:
        """``[M, K]``, NaN where the case lacks the modality or the region."""
        host = self.host
        data, segmentation, *_ = host.dataset_class(host.preprocessed_dataset_folder, [case]).load_case(case)
        available = np.flatnonzero(self.cases().training_present[case]).tolist()
        alone = torch.eye(len(self.modalities), dtype=torch.bool)[available]
        logits = predictor.predict_subsets(torch.from_numpy(np.array(data[:])), alone)
        truth = torch.from_numpy(np.array(segmentation[:]))[0].to(host.device)
        dice = torch.full((len(self.modalities), len(self.tasks)), float("nan"))
        for modality, heads in zip(available, logits, strict=True):
            dice[modality] = dice_by_task(
                heads.to(host.device),
                truth,
                list(self.tasks.values()),
                regions=host.label_manager.has_regions,
                ignore=host.label_manager.ignore_label,
                soft=soft,
            )
        return dice


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
        target = counts & torch.isin(truth, torch.tensor(labels, dtype=truth.dtype).to(truth.device))
        volume = float(target.sum())
        if not volume:
            dice.append(float("nan"))
            continue
        overlap, size = float(each[target].sum()), float(each[counts].sum())
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
