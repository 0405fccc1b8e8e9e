"""LCKD: learnable cross-modal knowledge distillation from elected teachers.

Legend: B batch, M modalities, A available modalities of a sample, K tasks (regions or classes), C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nnunetv2_mmkd.losses.feature import pairwise_distances, pooled_weight
from nnunetv2_mmkd.methods.base import HeldOut, SingleModalityDice, TaskLoss, TrainingContext
from nnunetv2_mmkd.methods.election import (
    Election,
    Winners,
    elect,
    mean_over_cases,
    most_frequent_teacher,
    unique_teachers,
)
from nnunetv2_mmkd.methods.lckd_config import LCKDConfig
from nnunetv2_mmkd.methods.stream_distillation import StreamDistillation
from nnunetv2_mmkd.modalities import index_of
from nnunetv2_mmkd.names import indices
from nnunetv2_mmkd.networks.contracts import MultiStreamNetwork
from nnunetv2_mmkd.networks.streams import Streams


class LCKD(StreamDistillation):
    r"""Task loss plus distillation from elected teachers to all available modalities.

    Training step, Eqs. (4) and (7):

    .. math:: \ell_{task} + \alpha \sum_{i \in T \cap A,\ j \in A} \lVert \operatorname{sg}(f_i) - f_j \rVert_p

    at the bottleneck; a teacher that a sample lacks is skipped; the sum over pairs is averaged over the batch. Every
    ``election_interval`` iterations, before the step, each modality alone segments the election cases; the best for
    each region wins it (Eq. 1), and the winners are the teachers T (Eq. 2).

    The network's fusion is mean filling (Eq. 5).

    References:
        Wang et al., Learnable Cross-modal Knowledge Distillation for Multi-modal Learning with Missing Modality,
        MICCAI 2023, Eqs. (1)-(7), §3.1, §3.3.

    Deviations from the paper:
        The teacher is detached (the paper is silent, the released code does so), so that two teachers pull each other
        symmetrically. The norm is the mean absolute (or squared) difference, as in the released code. Elections
        average over the cases that have modality and region (see
        :func:`~nnunetv2_mmkd.methods.election.mean_over_cases`), ties and regions without cases
        are settled by :func:`~nnunetv2_mmkd.methods.election.elect`. In runs under ``least_elections ·
        election_interval`` iterations elections are closer together than in the released code. Optimiser and schedule
        of the network are nnU-Net's (SGD with Nesterov momentum 0.99 and 1e-2 as in the paper, polynomial decay where
        the paper has a cosine). The modality dropout distribution is the trainer's: the released code's never keeps all
        modalities once its warm-up is over (``count_uniform_incomplete``), the paper drops 0 to 3.
    """

    needs = (SingleModalityDice,)

    def __init__(self, config: LCKDConfig | None = None) -> None:
        super().__init__()
        self.config: LCKDConfig = config or LCKDConfig()
        self.held_out = HeldOut("election", share=self.config.election_share, overlap=self.config.election_overlap)
        self.winners: Winners = ()
        self.teachers: tuple[int, ...] = ()
        self.elections: list[Election] = []
        self._told = 0

    def setup(self, context: TrainingContext) -> None:
        """Appoint the initial teacher and fix the schedule of elections."""
        super().setup(context)
        initial = self._initial_teacher(context.modalities)
        self.winners = (initial,) * len(context.regions)
        self.teachers = () if initial is None else (initial,)
        self.interval = self.config.election_interval
        if context.iterations and self.config.least_elections:
            self.interval = max(1, min(self.interval, context.iterations // self.config.least_elections))

    def _initial_teacher(self, modalities: tuple[str, ...]) -> int | None:
        name = self.config.initial_teacher
        if name == "none":
            return None
        if name == "auto":
            return modalities.index("flair") if "flair" in modalities else None
        return indices([name], modalities)[0]

    # -- Eqs. (1) and (2) --------------------------------------------------------------------------------------------

    def start_iteration(self, network: MultiStreamNetwork, task_loss: TaskLoss, iteration: int) -> None:
        """Hold the election, when it is due."""
        since = iteration - self.config.first_election
        if since < 0 or since % self.interval:
            return
        table = self.context.need(SingleModalityDice)(
            number=len(self.elections),
            most_cases=self.config.most_cases,
            soft=self.config.soft_dice,
            window_step=self.config.window_step,
        )
        dice = mean_over_cases(table).cpu()
        self.winners = elect(dice, self.winners)  # Eq. (1)
        if self.config.teachers == "unique":
            self.teachers = unique_teachers(self.winners)  # Eq. (2)
        else:
            self.teachers = most_frequent_teacher(self.winners, dice, self.teachers)  # §3.3
        self.elections.append(Election(iteration, len(table), dice, self.winners, self.teachers))
        self.context.log(self._announcement())

    def _announcement(self) -> str:
        """The last election, for the log."""
        election, names = self.elections[-1], self.context.modalities
        lines = [f"election {len(self.elections)} before iteration {election.iteration}, {election.cases} cases:"]
        for task, region in enumerate(self.context.regions):
            scores = election.dice[:, task]
            winner = election.winners[task]
            known = "nobody" if winner is None else names[winner]
            if scores.isnan().all():
                lines.append(f"  {region}: no election case has it, the teacher stays {known}")
            else:
                listed = ", ".join(f"{name} {score:.3f}" for name, score in zip(names, scores.tolist(), strict=True))
                lines.append(f"  {region}: {listed} -> {known}")
        return "\n".join([*lines, f"  teachers: {', '.join(names[m] for m in election.teachers) or 'none'}"])

    # -- Eqs. (3) to (7) ---------------------------------------------------------------------------------------------

    def distillation(self, streams: Streams, valid: Tensor | None) -> tuple[Tensor, int]:
        """Eq. (4), mean over the batch; and the number of (teacher, student) pairs in the batch."""
        terms, pairs = [], 0
        for sample, (modalities, features) in enumerate(streams.by_sample()):
            teachers = [row for row, modality in enumerate(modalities) if modality in self.teachers]
            self._averages.add("teacher there/share of samples", float(bool(teachers)))
            if len(modalities) == 1:  # no pair
                terms.append(torch.zeros((), device=features.device))
                continue
            weight = None if valid is None else pooled_weight(valid[sample], features.shape[2:])
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.alpha != 0):
                distances = pairwise_distances(features, self.config.p, weight)
                terms.append(distances[index_of(teachers, features.device)].sum())  # Eq. (4)
            pairs += len(teachers) * (len(modalities) - 1)
        return torch.stack(terms).mean(), pairs

    # -- curves and state --------------------------------------------------------------------------------------------

    def curve_names(self) -> tuple[str, ...]:
        """Loss parts; of elections the Dice by region and modality, and the share of the regions each teaches."""
        names = ["loss/task", "loss/distillation", "distillation per pair/mean", "teacher there/share of samples"]
        names += [f"teaches (share of regions)/{modality}" for modality in self.context.modalities]
        for region in self.context.regions:
            names += [f"{_panel(region)}/{modality}" for modality in self.context.modalities]
        return (*names, "elections/so far")

    def curves(self) -> dict[str, float]:
        """Epoch means, the teachers as they are now, and the Dice of the epoch's last election if it had one."""
        values = self._averages.read(self.curve_names())
        for modality, name in enumerate(self.context.modalities):
            share = self.winners.count(modality) / max(1, len(self.winners))
            if self.config.teachers == "most_frequent":
                share = float(modality in self.teachers)
            values[f"teaches (share of regions)/{name}"] = share
        if len(self.elections) > self._told:
            for task, region in enumerate(self.context.regions):
                for name, score in zip(self.context.modalities, self.elections[-1].dice[:, task].tolist(), strict=True):
                    values[f"{_panel(region)}/{name}"] = score
        self._told = len(self.elections)
        values["elections/so far"] = float(len(self.elections))
        return values

    def state_dict(self) -> dict[str, Any]:
        """All elections; winners and teachers by name."""
        return {
            "winners": self._names(self.winners),
            "teachers": self._names(self.teachers),
            "elections": [
                {
                    "iteration": election.iteration,
                    "cases": election.cases,
                    "dice": election.dice.clone(),
                    "winners": self._names(election.winners),
                    "teachers": self._names(election.teachers),
                }
                for election in self.elections
            ],
            "told": self._told,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.winners = self._positions(state["winners"])
        self.teachers = unique_teachers(self._positions(state["teachers"]))
        self.elections = [
            Election(
                int(entry["iteration"]),
                int(entry["cases"]),
                entry["dice"].cpu(),
                self._positions(entry["winners"]),
                unique_teachers(self._positions(entry["teachers"])),
            )
            for entry in state["elections"]
        ]
        self._told = int(state["told"])

    def _names(self, modalities: Winners) -> list[str | None]:
        return [None if modality is None else self.context.modalities[modality] for modality in modalities]

    def _positions(self, names: list[str | None]) -> Winners:
        return tuple(None if name is None else self.context.modalities.index(name) for name in names)


def _panel(region: str) -> str:
    """Title of a region's panel; a slash would end it."""
    return f"single-modality Dice of {region.replace('/', '|')}"
