"""Two gloo processes (nnU-Net's own DDP is for CUDA only): what is learned is the same on both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gloo_workers
import pytest
import torch
from tiny_nnunet import differences


def run_two(tmp_path: Path, shared: bool, different: bool) -> list[dict[str, Any]]:
    arguments = (2, str(tmp_path / "store"), shared, different, str(tmp_path))
    torch.multiprocessing.spawn(gloo_workers.work, arguments, nprocs=2)
    return [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_ranks_with_different_subsets_stay_equal(tmp_path: Path, shared: bool) -> None:
    first, second = run_two(tmp_path, shared, different=True)
    assert differences(first, second) == []
    torch.manual_seed(0)
    initial = gloo_workers.tiny_network(shared).state_dict()
    changed = [key for key in initial if not torch.equal(initial[key], first["network"][key])]
    # with separate streams each rank lacks some; weight decay moves even the stream that none had, equally
    assert any(key.startswith("encoders.0") for key in changed) and any(key.startswith("fusions") for key in changed)
    if not shared:
        assert any(key.startswith("encoders.1") for key in changed)
        assert any(key.startswith("encoders.2") for key in changed)
    alone = gloo_workers.train(0, 1, shared)
    assert differences(alone["network"], first["network"]) != []  # the other rank had a say
    assert differences(alone["method"], first["method"]) != []


@pytest.mark.slow
def test_ranks_with_equal_batches_equal_one_process(tmp_path: Path) -> None:
    first, second = run_two(tmp_path, shared=True, different=False)
    alone = gloo_workers.train(0, 1, shared=True, different=False)
    assert differences(first, second) == []
    # the mean of two equal gradients is exact; without deep supervision nothing reaches the first head, whose missing
    # gradient counts as zero on two ranks, so that weight decay moves it
    used = [key for key in alone["network"] if "seg_layers.0" not in key]
    assert differences(*({key: run["network"][key] for key in used} for run in (first, alone))) == []
    assert differences(first["method"], alone["method"]) == []
