"""Checkpoints as nnU-Net writes them, and files that are none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.checkpoint_file import read_nnunet_checkpoint
from nnunetv2_mmkd.paths import TRUST_VARIABLE

WHOLE: dict[str, Any] = {
    "network_weights": {"layer.weight": torch.arange(6.0).reshape(2, 3)},
    "optimizer_state": {"state": {}, "param_groups": [{"lr": 1e-2, "betas": (0.9, 0.999)}]},
    "grad_scaler_state": None,
    "logging": {"train_losses": [np.float32(0.1)], "lrs": [0.01], "dice": [[np.float64(0.5), np.nan]]},
    "_best_ema": np.float32(0.3),
    "current_epoch": np.int64(3),
    "init_args": {"plans": {"strides": [[1, 1]]}, "configuration": "2d", "fold": 0},
    "trainer_name": "nnUNetTrainer",
    "inference_allowed_mirroring_axes": (0, 1),
}
"""The keys of nnU-Net's checkpoints."""


class Foreign:
    """An object that a user's own trainer may have stored."""


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """``weights_only`` of each call of ``torch.load``."""
    seen: list[bool] = []
    load = torch.load

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["weights_only"])
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", spy)
    return seen


@pytest.mark.parametrize("mmap", [False, True])
def test_nnunets_own_checkpoints_need_no_trust(tmp_path: Path, modes: list[bool], mmap: bool) -> None:
    torch.save(WHOLE, tmp_path / "checkpoint.pth")
    found = read_nnunet_checkpoint(tmp_path / "checkpoint.pth", mmap=mmap)
    assert modes == [True]
    assert torch.equal(found["network_weights"].pop("layer.weight"), WHOLE["network_weights"]["layer.weight"])
    assert repr(found) == repr({**WHOLE, "network_weights": {}})  # types of numpy, too


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_foreign_object_needs_trust(
    tmp_path: Path, modes: list[bool], by_variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "checkpoint.pth"
    torch.save({**WHOLE, "own": Foreign()}, file)
    with pytest.raises(InputError, match=r"checkpoint\.pth holds more than .*Foreign.*--trust"):
        read_nnunet_checkpoint(file)
    assert modes == [True]
    if by_variable:
        monkeypatch.setenv(TRUST_VARIABLE, "1")
    assert isinstance(read_nnunet_checkpoint(file, trust=not by_variable)["own"], Foreign)
    assert modes == [True, True, False]


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(InputError, match="a pickle of something else"):
        read_nnunet_checkpoint(tmp_path / "plain.pth", trust=True)
    torch.save({**WHOLE, "own": Payload(tmp_path / "ran")}, tmp_path / "checkpoint.pth")
    with pytest.raises(InputError, match=r"checkpoint\.pth"):
        read_nnunet_checkpoint(tmp_path / "checkpoint.pth")
    assert not (tmp_path / "ran").exists()
    read_nnunet_checkpoint(tmp_path / "checkpoint.pth", trust=True)  # the payload is a real one
    assert (tmp_path / "ran").exists()


def whole(tmp_path: Path) -> bytes:
    torch.save(WHOLE, tmp_path / "whole.pth")
    return (tmp_path / "whole.pth").read_bytes()


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: None, "does not exist"),
        (lambda content: b"", r"cannot be read \(it is empty\)"),
        (lambda content: content[: len(content) // 2], r"cannot be read \(it is truncated\)"),
        (lambda content: b"<html>404</html>", r"cannot be read \(it is not a file of PyTorch\)"),
        (
            lambda content: pickle.dumps({}),
            r"cannot be read \(it is a pickle of something else than .*\): copy it again",
        ),
        (lambda content: b"PK\x05\x06" + bytes(18), r"cannot be read \(it is a zip file without a checkpoint"),
        (lambda content: content.replace(b"data.pkl", b"code.pkl"), r"cannot be read \(it is a zip file without"),
        (
            lambda content: content.replace(b"network_weights", b"network_heights"),
            "checksum of whole/data.pkl is another",
        ),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, spoil: Any, message: str, mmap: bool) -> None:
    file = tmp_path / "checkpoint.pth"
    content = spoil(whole(tmp_path))
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_nnunet_checkpoint(file, mmap=mmap)
    assert str(error.value).startswith(str(file))


def test_a_program_of_torch(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "program.pth")
    with pytest.raises(InputError, match="it is a TorchScript program and no checkpoint"):
        read_nnunet_checkpoint(tmp_path / "program.pth")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a file: give the checkpoint of a training"):
        read_nnunet_checkpoint(tmp_path)


def test_something_else_of_torch(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="is not a checkpoint of nnU-Net"):
        read_nnunet_checkpoint(tmp_path / "list.pth")
