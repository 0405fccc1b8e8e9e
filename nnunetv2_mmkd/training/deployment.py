"""What is deployed may be other weights than those that are trained: a method's moving average, for example."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunetv2_mmkd.methods.base import Method


class DeploymentMixin(nnUNetTrainer):
    """Validates, saves and finally predicts with the weights that :meth:`Method.deployed` returns, if any.

    They stand in the network for as long as it takes; training goes on with its own. nnU-Net's ``network_weights`` are
    the deployed ones, so ``checkpoint_best`` follows them, and prediction and the zip export have them. ``--c`` finds
    the trained ones beside (:class:`~nnunetv2_mmkd.training.checkpoint.CheckpointMixin`).
    """

    method: Method
    network: Any

    @property
    def bare_network(self) -> nn.Module:
        """The network without wrappers."""
        raise NotImplementedError

    @property
    def trained_module(self) -> nn.Module:
        """The network without the compiler's wrapper either: its keys are nnU-Net's."""
        network: Any = self.bare_network
        return getattr(network, "_orig_mod", network)

    @contextmanager
    def deployed_weights(self) -> Iterator[bool]:
        """Put the deployed weights into the network, and the trained ones back afterwards.

        Yields:
            whether they are others than the trained ones.
        """
        network = self.trained_module
        deployed = self.method.deployed(network)
        if deployed is None:
            yield False
            return
        trained = {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
        network.load_state_dict(deployed)
        try:
            yield True
        finally:
            network.load_state_dict(trained)

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint with the deployed weights."""
        with self.deployed_weights():
            super().save_checkpoint(filename)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """The final validation with the deployed weights."""
        with self.deployed_weights() as others:
            if others:
                self.print_to_log_file(f"It uses the weights that {type(self.method).__name__} deploys.")
            super().perform_actual_validation(save_probabilities)
