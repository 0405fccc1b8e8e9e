"""Deployed weights that are not the trained ones: where they stand, and that training never notices."""

from __future__ import annotations

import copy
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiny_nnunet import Home, differences, same_start, start, steps
from torch import nn

from nnunetv2_mmkd.methods.modality_dropout import ModalityDropout
from nnunetv2_mmkd.methods.subset_kd import SubsetKDConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import (
    nnUNetTrainerSubsetKD,
)


class Halved(ModalityDropout):
    """Deploys half of every weight."""

    def deployed(self, network: Any) -> dict[str, Any]:
        assert not any("_orig_mod" in key for key in network.state_dict())
        return {key: tensor / 2 for key, tensor in network.state_dict().items()}


class nnUNetTrainerModalityDropoutHalved(nnUNetTrainerModalityDropout):
    def build_method(self) -> Halved:
        return Halved()


def test_any_method_may_deploy_other_weights(home: Home, tmp_path: Path) -> None:
    trainer = start(home.trainer(nnUNetTrainerModalityDropoutHalved))
    steps(trainer, [next(trainer.dataloader_train)])
    trained = copy.deepcopy(trainer.network.state_dict())
    trainer.save_checkpoint(str(tmp_path / "saved.pth"))
    saved = torch.load(tmp_path / "saved.pth", weights_only=False)
    assert differences(saved["network_weights"], {key: value / 2 for key, value in trained.items()}) == []
    assert differences(saved["mmkd"]["network"], trained) == []
    assert differences(trainer.network.state_dict(), trained) == []
    resumed = home.trainer(nnUNetTrainerModalityDropoutHalved)
    resumed.load_checkpoint(str(tmp_path / "saved.pth"))
    assert differences(resumed.network.state_dict(), trained) == []


def test_the_control_saves_what_it_did(home: Home, tmp_path: Path) -> None:
    trainer = start(home.trainer(nnUNetTrainerModalityDropout))
    trainer.save_checkpoint(str(tmp_path / "saved.pth"))
    saved = torch.load(tmp_path / "saved.pth", weights_only=False)
    assert "network" not in saved["mmkd"]
    assert differences(saved["network_weights"], trainer.network.state_dict()) == []


def test_an_error_gives_the_trained_weights_back(home: Home) -> None:
    trainer = start(home.trainer(nnUNetTrainerModalityDropoutHalved))
    trained = copy.deepcopy(trainer.network.state_dict())
    with pytest.raises(KeyError), trainer.deployed_weights() as others:
        assert others and differences(trained, trainer.network.state_dict()) != []
        raise KeyError
    assert differences(trained, trainer.network.state_dict()) == []


class SubsetKDRun(nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(ramp=(0.2, 0.8), window=0.5)


def test_online_and_final_validation_are_of_the_average(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = start(home.trainer(SubsetKDRun))
    steps(trainer, [next(trainer.dataloader_train) for _ in range(3)])
    assert differences(trainer.network.state_dict(), trainer.method.ema.state_dict()) != []
    other = start(home.trainer(nnUNetTrainerSubsetKD))  # has no average yet: validates what it has
    other.network.load_state_dict(trainer.method.ema.state_dict())
    batch = next(trainer.dataloader_val)
    results = []
    for each in (trainer, other):
        with torch.no_grad():
            each.network.eval()
            each.on_validation_epoch_start()
            results.append([each.validation_step(copy.deepcopy(batch)), *each.online_validation.full_outputs])
    assert differences(*results) == []
    seen: list[dict[str, Any]] = []

    def look(self: Any, network: Any, *_: Any) -> None:
        seen.append(copy.deepcopy(network.state_dict()))
        raise InterruptedError

    monkeypatch.setattr(nnUNetPredictor, "manual_initialization", look)
    with pytest.raises(InterruptedError):
        trainer.perform_actual_validation()
    assert differences(seen[0], trainer.method.ema.state_dict()) == []
    assert differences(seen[0], trainer.network.state_dict()) != []


@pytest.mark.slow
def test_compiled_as_a_whole(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As nnU-Net compiles on a GPU, but with a backend that needs no C++ compiler; the keys stay nnU-Net's."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))

    class Compiled(nnUNetTrainerSubsetKD):
        config = SubsetKDConfig(ramp=(0, 0))

    dataset = home.dataset(2, "regions")
    plain, compiled = (start(home.trainer(Compiled, dataset, "2d")) for _ in range(2))
    same_start(plain, compiled)
    keys = list(plain.network.state_dict())
    compiled.network = torch.compile(compiled.network, backend="aot_eager")
    compiled.sampler.load_state_dict(plain.sampler.state_dict())
    batches = [next(plain.dataloader_train) for _ in range(2)]
    assert steps(plain, batches) == pytest.approx(steps(compiled, batches), rel=1e-4)
    assert compiled.method.ema._compiled_call_impl is not None and plain.method.ema._compiled_call_impl is None
    for trainer, name in ((plain, "plain"), (compiled, "compiled")):
        trainer.save_checkpoint(str(tmp_path / f"{name}.pth"))
    saved = [torch.load(tmp_path / f"{name}.pth", weights_only=False) for name in ("plain", "compiled")]
    for first, second in ((s["network_weights"], s["mmkd"]["network"]) for s in saved):
        assert list(first) == list(second) == keys and differences(first, second) != []
    for key, value in saved[0]["network_weights"].items():
        torch.testing.assert_close(value, saved[1]["network_weights"][key], rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        compiled.network.eval()
        compiled.on_validation_epoch_start()
        assert np.isfinite(compiled.validation_step(next(compiled.dataloader_val))["loss"])
