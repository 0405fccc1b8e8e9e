"""A discriminator with an optimiser of its own, and a student that is to fool it.

Legend: B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_mmkd.losses.style import adversarial_loss, discriminator_loss
from nnunetv2_mmkd.methods.base import TrainingContext
from nnunetv2_mmkd.networks.discriminator import FeatureDiscriminator


class Adversary(nn.Module):
    """Tells maps of complete from those of incomplete data; it takes a step after the networks', on what they made.

    Args:
        channels: C of the maps.
        dimensions: 2 or 3.
        context: for the device and the other ranks.
        rate: learning rate of Adam.
        betas: of Adam.
    """

    def __init__(
        self, channels: int, dimensions: int, context: TrainingContext, rate: float, betas: tuple[float, float]
    ) -> None:
        super().__init__()
        self.discriminator = FeatureDiscriminator(channels, dimensions).to(context.device)
        context.broadcast([self.discriminator])
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), rate, betas)
        self._context = context
        self._seen: tuple[Tensor, Tensor] | None = None

    def fool(self, incomplete: Tensor) -> Tensor:
        """What the student minimises; the discriminator passes gradients on and collects none.

        Args:
            incomplete: the student's map ``[B, C, *spatial]``.
        """
        with self._frozen():
            return adversarial_loss(self.discriminator(incomplete.float()))

    def see(self, complete: Tensor, incomplete: Tensor) -> None:
        """Keep the maps of a step for :meth:`learn`, without their gradients.

        Args:
            complete: of the teacher, ``[B, C, *spatial]``.
            incomplete: of the student.
        """
        self._seen = (complete.detach(), incomplete.detach())

    def learn(self) -> tuple[Tensor, Tensor] | None:
        """A step on what was seen last: the loss, and the share of rightly told positions; None if nothing was."""
        if self._seen is None:
            return None
        known = [features.float().nan_to_num(0.0, 0.0, 0.0) for features in self._seen]  # an overflow teaches nothing
        complete, incomplete = (self.discriminator(features) for features in known)
        self._seen = None
        loss = discriminator_loss(complete, incomplete)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._context.average([p.grad for p in self.discriminator.parameters() if p.grad is not None])
        self.optimizer.step()
        return loss, torch.cat([(complete < 0).flatten(), (incomplete > 0).flatten()]).float().mean()

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of the discriminator and of its optimiser."""
        return self.discriminator.state_dict(), self.optimizer.state_dict()

    def restore(self, discriminator: Mapping[str, Any], optimizer: Mapping[str, Any]) -> None:
        """Take back :meth:`state`."""
        self.discriminator.load_state_dict(discriminator)
        self.optimizer.load_state_dict(dict(optimizer))

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        self.discriminator.requires_grad_(False)
        try:
            with torch.autocast(self._context.device.type, enabled=False):
                yield
        finally:
            self.discriminator.requires_grad_(True)
