"""A start from self-supervision, or from a model of other modalities: what is copied where, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tiny_nnunet import PLAIN, RESIDUAL, Home, differences
from torch import Tensor

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.from_plans import planned_network
from nnunetv2_mmkd.networks.request import NetworkRequest
from nnunetv2_mmkd.trainer_variants import nnUNetTrainerMetaKD as metakd
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD
from nnunetv2_mmkd.trainer_variants.nnUNetTrainermmFormer import nnUNetTrainermmFormer
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import (
    nnUNetTrainerModalityDropout,
    nnUNetTrainerModalityDropoutStems,
)
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import nnUNetTrainerSubsetKD_MultiStream
from nnunetv2_mmkd.training.pretrained import fitted, fitted_file

STEM = {PLAIN: "stages.0.0.convs.0", RESIDUAL: "stem.convs.0"}


def self_supervised(home: Home, identifier: str, file: Path, **plan: Any) -> dict[str, Tensor]:
    """A checkpoint in nnssl's format with the encoder of a network for one channel; returns the encoder."""
    manager = home.trainer(nnUNetTrainerModalityDropout, identifier=identifier).configuration_manager
    torch.manual_seed(7)
    network = planned_network(NetworkRequest(manager, ("t1",), 1, False), 1)
    stem = "net.encoder.stem" if identifier == RESIDUAL else "net.encoder.stages.0"
    content = {
        "network_weights": {f"net.{key}": value for key, value in network.state_dict().items()},
        "citations": [],
        "nnssl_adaptation_plan": {
            "key_to_encoder": "net.encoder.stages", "key_to_stem": stem,
            "keys_to_in_proj": [f"net.encoder.{STEM[identifier]}.conv"], "pretrain_num_input_channels": 1, **plan,
        },
    }  # fmt: skip
    torch.save(content, file)
    encoder: dict[str, Tensor] = network.encoder.state_dict()
    return encoder


def arguments(home: Home, identifier: str = PLAIN, dataset: str | None = None) -> tuple[Any, str, Any]:
    name = dataset or home.dataset()
    return home.json(name, f"{identifier}.json"), "3d_fullres", home.json(name)


@pytest.mark.parametrize("identifier", [PLAIN, RESIDUAL])
@pytest.mark.parametrize(
    "trainer",
    [
        nnUNetTrainerModalityDropout,
        nnUNetTrainerModalityDropoutStems,
        nnUNetTrainerMetaKD,
        nnUNetTrainermmFormer,
        nnUNetTrainerSubsetKD_MultiStream,
    ],
)
def test_every_kind_of_network_starts_from_an_encoder_of_one_channel(
    home: Home, tmp_path: Path, identifier: str, trainer: type
) -> None:
    file = tmp_path / "ssl.pth"
    encoder = self_supervised(home, identifier, file)
    made = fitted(str(file), trainer, *arguments(home, identifier))
    assert made is not None and str(file) in made[1]
    first = f"{STEM[identifier]}.conv.weight"
    weights = made[0]
    if trainer in (nnUNetTrainerModalityDropout, nnUNetTrainerModalityDropoutStems):
        stems = trainer is nnUNetTrainerModalityDropoutStems
        prefixes = ["encoder."]
        own = f"encoder.{STEM[identifier]}.all_modules.0.conv.weight" if stems else f"encoder.{first}"
        expected = encoder[first].repeat(3, *[1] * 4) if stems else encoder[first].repeat(1, 3, 1, 1, 1) / 3
        assert torch.equal(weights[own], expected)
    else:
        prefixes = [f"encoders.{number}." for number in range(1 if trainer is nnUNetTrainerMetaKD else 3)]
        assert all(torch.equal(weights[f"{prefix}{first}"], encoder[first]) for prefix in prefixes)
    others = [key for key in encoder if not key.startswith(STEM[identifier])]
    assert len(others) > 5
    for prefix in prefixes:
        assert all(torch.equal(weights[prefix + key], encoder[key]) for key in others)
    network = home.trainer(trainer, identifier=identifier)
    with fitted_file(weights) as name:
        maybe_load_checkpoint(network, False, False, name)  # nnU-Net takes it
    taken = {key: value for key, value in network.network.state_dict().items() if ".seg_layers." not in key}
    assert differences(taken, {key: weights[key] for key in taken}) == []


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["T2", "T1", "T1ce"], [2, 0, 1]),
        (["T1", "FLAIR", "T2", "PD"], [0, None, 2, None]),
    ],
)
@pytest.mark.parametrize("trainer", [nnUNetTrainerModalityDropout, nnUNetTrainerMetaKD])
def test_another_model_of_ours_by_name(
    home: Home, tmp_path: Path, trainer: type, names: list[str], columns: list[int | None]
) -> None:
    before = home.trainer(trainer)  # t1, t1ce, t2
    before.initialize()
    file, key = tmp_path / "before.pth", "encoder.stages.0.0.convs.0.conv.weight"
    before.save_checkpoint(str(file))
    old = before.network.state_dict()
    plans, configuration, dataset_json = arguments(home)
    dataset_json = {**dataset_json, "channel_names": {str(number): name for number, name in enumerate(names)}}
    made = fitted(str(file), trainer, plans, configuration, dataset_json)
    assert made is not None and "matched by name" in made[1] and ("FLAIR".lower() in made[1]) == (None in columns)
    if trainer is nnUNetTrainerModalityDropout:
        weight = old[key]
        expected = [weight.mean(1) if column is None else weight[:, column] for column in columns]
        assert torch.equal(made[0][key], torch.stack(expected, 1))
        assert torch.equal(made[0][f"decoder.{key}"], made[0][key])
    else:
        key = "fusions.0.weight"
        expected = [old[key].mean(0) if column is None else old[key][column] for column in columns]
        assert torch.equal(made[0][key], torch.stack(expected))
    first = "encoder.stages.0.0.convs.0."
    by_name = [k for k in old if k.startswith("fusions.") or (first in k and k.endswith("conv.weight"))]
    first_of_all = [k for k in old if first in k and old[k].shape == old[key].shape]
    same = [k for k in old if ".seg_layers." not in k and k not in [*by_name, *first_of_all]]
    assert len(same) > 20 and all(torch.equal(made[0][k], old[k]) for k in same)
    assert fitted(str(file), trainer, *arguments(home)) is None  # the same modalities: nnU-Net's own way


def test_a_stock_network_starts_by_name_too(home: Home, tmp_path: Path) -> None:
    before = home.trainer(nnUNetTrainer)  # t1, t1ce, t2
    before.initialize()
    file, key = tmp_path / "before.pth", "encoder.stages.0.0.convs.0.conv.weight"
    before.save_checkpoint(str(file))
    plans, configuration, dataset_json = arguments(home)
    turned = {**dataset_json, "channel_names": {"0": "T2", "1": "T1", "2": "T1ce"}}
    made = fitted(str(file), nnUNetTrainer, plans, configuration, turned)
    assert made is not None and torch.equal(made[0][key], before.network.state_dict()[key][:, [2, 0, 1]])
    assert fitted(str(file), nnUNetTrainer, plans, configuration, dataset_json) is None


def test_refusals(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "ssl.pth"
    self_supervised(home, RESIDUAL, file)
    with pytest.raises(
        InputError, match=r"the encoder of .*ssl.pth is not that of the plans: it has no .*nnUNetPlanner"
    ):
        fitted(str(file), nnUNetTrainerModalityDropout, *arguments(home, PLAIN))
    self_supervised(home, RESIDUAL, file, key_to_encoder="eva")
    with pytest.raises(InputError, match=r"no weights below 'eva'.*not Primus"):
        fitted(str(file), nnUNetTrainerModalityDropout, *arguments(home, RESIDUAL))
    self_supervised(home, RESIDUAL, file, key_to_stem=None)
    with pytest.raises(InputError, match=r"has no 'key_to_stem'"):
        fitted(str(file), nnUNetTrainerModalityDropout, *arguments(home, RESIDUAL))
    before = home.trainer(nnUNetTrainermmFormer)
    before.initialize()
    before.save_checkpoint(str(file))
    plans, configuration, dataset_json = arguments(home)
    turned = {**dataset_json, "channel_names": {"0": "T2", "1": "T1", "2": "T1ce"}}
    with pytest.raises(InputError, match=r"its fusion, MMFormerFusion, cannot be matched by name"):
        fitted(str(file), nnUNetTrainermmFormer, plans, configuration, json.loads(json.dumps(turned)))


@pytest.mark.parametrize("names", [["T1", "T1ce", "T2"], ["T2", "T1", "T1ce"]])
def test_encoders_of_several_modalities_are_not_taken_for_one_of_all(
    home: Home, tmp_path: Path, names: list[str]
) -> None:
    before = home.trainer(metakd.nnUNetTrainerMetaKD_ownstreams)
    before.initialize()
    file = tmp_path / "before.pth"
    before.save_checkpoint(str(file))
    plans, configuration, dataset_json = arguments(home)
    dataset_json = {**dataset_json, "channel_names": {str(number): name for number, name in enumerate(names)}}
    with pytest.raises(InputError, match=r"before.pth .*it has an encoder for each modality, and the network one"):
        fitted(str(file), nnUNetTrainerMetaKD, plans, configuration, dataset_json)
