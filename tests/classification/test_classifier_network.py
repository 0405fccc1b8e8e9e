"""The classifier: mean filling, masking, and the three calls that methods make."""

from __future__ import annotations

import pytest
import torch
from toy_subjects import classifier, toy

from nnunetv2_mmkd.classification.encoders import ImageEncoder, SoundEncoder, TabularEncoder, VolumeEncoder
from nnunetv2_mmkd.classification.network import MultiModalClassifier, fill
from nnunetv2_mmkd.errors import InputError


def test_missing_features_are_the_mean_of_the_others() -> None:
    features = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [0.0, 0.0]], [[4.0, 4.0], [0.0, 0.0], [0.0, 0.0]]])
    available = torch.tensor([[True, True, False], [True, False, False]])
    filled = fill(features, available)
    assert filled.tolist() == [[[1.0, 2.0], [3.0, 6.0], [2.0, 4.0]], [[4.0, 4.0]] * 3]


def test_gradients_flow_through_the_mean() -> None:
    features = torch.ones(1, 3, 1, requires_grad=True)
    masked = torch.where(torch.tensor([[[True], [True], [False]]]), features, torch.zeros(()))
    fill(masked, torch.tensor([[True, True, False]])).sum().backward()
    assert features.grad is not None and features.grad.flatten().tolist() == [1.5, 1.5, 0.0]


def test_the_content_of_a_missing_input_changes_no_bit() -> None:
    net = classifier().eval()
    subjects = toy(20)
    expected = net(subjects.inputs, subjects.present)
    other = {
        name: torch.where(subjects.present[:, [column]], values, torch.inf)
        for column, (name, values) in enumerate(subjects.inputs.items())
    }
    assert torch.isfinite(expected).all() and torch.equal(net(other, subjects.present), expected)


def test_streams_are_those_of_the_core() -> None:
    net = classifier().eval()
    subjects = toy(20)
    streams = net.encode(subjects.inputs, subjects.present)
    for row, (modalities, features) in enumerate(streams.by_sample()):
        assert modalities == tuple(torch.nonzero(subjects.present[row]).flatten().tolist())
        assert features.shape == (len(modalities), 6, 1)
    alone = torch.tensor([True, False])
    having = subjects.take(torch.nonzero(subjects.present[:, 0]).flatten())
    narrowed = net.encode(having.inputs, having.present).narrowed(alone)
    assert torch.allclose(net.decode(net.fuse(narrowed).skips), net(having.inputs, alone), atol=1e-6)


def test_weights_multiply_real_and_filled_features() -> None:
    net = classifier().eval()
    subjects = toy(20)
    streams = net.encode(subjects.inputs, subjects.present)
    weights = torch.tensor([0.25, 0.75])
    (plain,), (weighted,) = net.fuse(streams).skips, net.fuse(streams, weights=[weights]).skips
    assert torch.equal(weighted, plain * weights[:, None])


def test_encoders_end_in_the_width_asked_for() -> None:
    for encoder, shape in (
        (ImageEncoder(12), (1, 28, 28)),
        (SoundEncoder(12), (1, 20, 20)),
        (TabularEncoder(7, 12), (7,)),
        (VolumeEncoder(12), (1, 17, 12, 9)),
    ):
        encoder.train()
        assert encoder(torch.randn(1, *shape)).shape == (1, 12)  # a batch may hold one subject that has the modality


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="equal width"):
        MultiModalClassifier({"a": TabularEncoder(3, 6), "b": TabularEncoder(5, 7)}, 2)
    net = classifier()
    with pytest.raises(InputError, match="lacks 'b'"):
        net({"a": torch.zeros(2, 3)})
    with pytest.raises(InputError, match="no modality at all"):
        net({"a": torch.zeros(2, 3), "b": torch.zeros(2, 5)}, torch.tensor([[True, False], [False, False]]))
