"""The multi-stream network: results do not depend on what else is computed; recomputation changes no gradient."""

from __future__ import annotations

import gloo_trainings
import pytest
import torch
from tiny_nnunet import RESIDUAL, Home, differences

from nnunetv2_mmkd.methods.base import Batch
from nnunetv2_mmkd.modalities import all_subsets
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.networks.streams import Streams
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD
from nnunetv2_mmkd.training.multi_stream import nnUNetTrainerMultiStream


class SeparateStreams(nnUNetTrainerMultiStream):
    shared_streams = False


def part_of(streams: Streams, available: torch.Tensor) -> Streams:
    """The streams of a subset, out of those of more modalities."""
    rows = [row for row, (sample, modality) in enumerate(streams.pairs) if available[sample, modality]]
    pairs = tuple(streams.pairs[row] for row in rows)
    return Streams(available, pairs, tuple(tuple(scale[row] for row in rows) for scale in streams.scales))


@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_a_subset_in_eval_does_not_depend_on_what_else_is_computed(one_thread: None, shared: bool) -> None:
    network = gloo_trainings.tiny_network(shared).eval()
    x = torch.randn(2, 3, 16, 16)
    everything = network.encode(x, torch.ones(2, 3, dtype=torch.bool))
    for subset in all_subsets(3):
        mask = subset[None].expand(2, -1)
        alone = network.encode(x, mask)
        chosen = part_of(everything, mask)
        assert alone.pairs == chosen.pairs
        assert differences(alone.scales, chosen.scales) == []
        assert torch.equal(network(x, mask), network.decode(network.fuse(chosen).skips))


@torch.no_grad()
def test_samples_of_a_batch_may_have_different_subsets(one_thread: None) -> None:
    network = gloo_trainings.tiny_network(True).eval()
    x = torch.randn(2, 3, 16, 16)
    mixed = network(x, torch.tensor([[True, False, True], [False, True, False]]))
    for sample, subset in ((0, [True, False, True]), (1, [False, True, False])):
        torch.testing.assert_close(mixed[sample], network(x, torch.tensor(subset))[sample])


def test_missing_streams_are_not_computed() -> None:
    network = gloo_trainings.tiny_network(False)
    calls = []
    for number, encoder in enumerate(network.encoders):
        encoder.stages[0].register_forward_hook(lambda *_, number=number: calls.append(number))
    network(torch.randn(1, 3, 16, 16), torch.tensor([True, False, True]))
    assert calls == [0, 2]


def gradients_of(network: MultiStreamUNet, batch: Batch, stages: int) -> list[torch.Tensor]:
    network.recomputed_stages = stages
    network.train().zero_grad(set_to_none=True)
    outputs = network(batch.images, batch.available)
    sum((output.square().mean() for output in outputs), torch.zeros(())).backward()
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerMetaKD, SeparateStreams], ids=lambda c: c.__name__)
@pytest.mark.parametrize("identifier", ["nnUNetPlans", RESIDUAL])
def test_recomputation_gives_the_same_gradients(home: Home, trainer_class: type, identifier: str) -> None:
    trainer = home.trainer(trainer_class, identifier=identifier)
    trainer.initialize()
    network = trainer.bare_network.double()  # biases before a norm have no gradient but rounding
    assert network.recomputed_stages == 0  # on the CPU nothing is recomputed unless asked for
    available = torch.tensor([[True, True, False], [False, True, True]])
    batch = Batch(torch.randn(2, 3, 16, 16, 16).double(), available, available, None)
    stored = gradients_of(network, batch, 0)
    for stages in (1, 3):
        again = gradients_of(network, batch, stages)
        assert len(stored) == len(again) > 0
        for first, second in zip(stored, again, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-12)


def test_recomputation_stores_less(one_thread: None) -> None:
    saved = {}
    network = gloo_trainings.tiny_network(True).train()
    for stages in (0, 3):
        network.recomputed_stages = stages
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            network(torch.randn(2, 3, 16, 16), torch.ones(3, dtype=torch.bool))
        saved[stages] = sum(sizes)
    assert saved[3] < saved[0]


def test_the_trainer_switches_recomputation(home: Home) -> None:
    class Recomputing(nnUNetTrainerMetaKD):
        recomputed_stages = 2

    trainer = home.trainer(Recomputing)
    trainer.initialize()
    assert trainer.bare_network.recomputed_stages == 2


def test_compiled_parts_keep_keys_and_results(one_thread: None) -> None:
    network = gloo_trainings.tiny_network(True)
    x, mask = torch.randn(2, 3, 16, 16), torch.tensor([[True, False, True], [True, True, False]])
    keys, expected = list(network.state_dict()), network(x, mask)
    network.compile_parts(backend="eager")
    torch.testing.assert_close(network(x, mask), expected)
    assert list(network.state_dict()) == keys
