"""What the trainers refuse or warn about, and weights to start from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tiny_nnunet import RESIDUAL, Home, differences, log_of, same_start, start, steps

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import ModalityDropoutConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout

BOTH = pytest.mark.parametrize("trainer_class", [nnUNetTrainerMetaKD, nnUNetTrainerModalityDropout])


def cascade(plans: dict[str, Any]) -> None:
    low = {**plans["configurations"]["3d_fullres"], "next_stage": "3d_cascade_fullres"}
    plans["configurations"]["3d_lowres"] = low
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}


@BOTH
@pytest.mark.parametrize("configuration", ["3d_cascade_fullres", "3d_lowres"])
def test_cascades_are_refused(home: Home, trainer_class: type, configuration: str) -> None:
    trainer = home.trainer(trainer_class, configuration=configuration, edit_plans=cascade)
    with pytest.raises(NotImplementedError, match=f"{configuration} belongs to a cascade"):
        trainer.initialize()


@BOTH
def test_plans_that_are_no_unets_are_refused(home: Home, trainer_class: type) -> None:
    def other_network(plans: dict[str, Any]) -> None:
        architecture = plans["configurations"]["3d_fullres"]["architecture"]
        architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualUNet"

    trainer = home.trainer(trainer_class, identifier=RESIDUAL, edit_plans=other_network)
    with pytest.raises(NotImplementedError, match="the plans ask for ResidualUNet"):
        trainer.initialize()


@pytest.mark.parametrize("name", ["subprocess.Popen", "torch.nn.modules.module.torch.hub.os.system", 3])
@pytest.mark.parametrize("part", ["network_class_name", "nonlin"])
def test_plans_name_networks_and_layers_only(home: Home, part: str, name: Any) -> None:
    def edit(plans: dict[str, Any]) -> None:
        architecture = plans["configurations"]["3d_fullres"]["architecture"]
        (architecture if part == "network_class_name" else architecture["arch_kwargs"])[part] = name

    with pytest.raises(InputError, match=f"'?{part}'? is|the plans ask for the network 'subprocess"):
        home.trainer(nnUNetTrainerModalityDropout, edit_plans=edit).initialize()


def test_ct_normalisation_is_warned_about(home: Home) -> None:
    def as_ct(plans: dict[str, Any]) -> None:
        plans["configurations"]["3d_fullres"]["normalization_schemes"][1] = "CTNormalization"

    trainer = home.trainer(nnUNetTrainerModalityDropout, edit_plans=as_ct)
    trainer.initialize()
    assert "WARNING: a channel is normalised as CT" in log_of(trainer)
    other = home.trainer(nnUNetTrainerModalityDropout, configuration="2d")
    other.initialize()
    assert "normalised as CT" not in log_of(other)


def test_the_environment_variable_is_ignored_in_training(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    class NothingDropped(nnUNetTrainerModalityDropout):
        modality_dropout = ModalityDropoutConfig("full")

    plain = start(home.trainer(NothingDropped))
    monkeypatch.setenv("nnUNet_missing_modalities", "t1ce")
    told = start(home.trainer(NothingDropped))
    assert "WARNING: the environment variable nnUNet_missing_modalities is for prediction" in log_of(told)
    assert "nnUNet_missing_modalities" not in os.environ  # the final validation uses all modalities, too
    same_start(plain, told)
    batches = [next(plain.dataloader_train) for _ in range(2)]
    assert steps(plain, batches) == steps(told, batches)


def test_two_channels_of_one_name_are_refused(home: Home) -> None:
    with pytest.raises(ValueError, match="name the modality 't1' more than once"):
        home.trainer(nnUNetTrainerModalityDropout, channel_names={"0": "T1", "1": "T1n", "2": "T2"})


def test_pretrained_weights_of_a_stock_model_fit_the_control(home: Home, tmp_path: Path) -> None:
    stock = start(home.trainer(nnUNetTrainer))
    stock.save_checkpoint(str(tmp_path / "stock.pth"))
    control = home.trainer(nnUNetTrainerModalityDropout)
    maybe_load_checkpoint(control, False, False, str(tmp_path / "stock.pth"))
    taken = {k: v for k, v in control.network.state_dict().items() if ".seg_layers." not in k}
    assert differences(taken, {k: stock.network.state_dict()[k] for k in taken}) == []


def test_pretrained_weights_of_another_topology_are_refused(home: Home, tmp_path: Path) -> None:
    """nnU-Net itself refuses them under nnUNetv2_train; `mmkd train` does so before anything is made."""
    stock = start(home.trainer(nnUNetTrainer))
    stock.save_checkpoint(str(tmp_path / "stock.pth"))
    metakd = home.trainer(nnUNetTrainerMetaKD)
    with pytest.raises(AssertionError, match="do not seem to be compatible with your network"):
        maybe_load_checkpoint(metakd, False, False, str(tmp_path / "stock.pth"))


def test_compilation_is_off_for_streams_unless_asked_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    streams, control = home.trainer(nnUNetTrainerMetaKD), home.trainer(nnUNetTrainerModalityDropout)
    streams.device = control.device = torch.device("cuda")
    assert not streams._do_i_compile() and control._do_i_compile()
    monkeypatch.setenv("nnUNet_compile", "t")
    assert streams._do_i_compile()
    monkeypatch.setenv("nnUNet_compile", "f")
    assert not control._do_i_compile()
