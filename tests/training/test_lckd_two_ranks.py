"""LCKD in two gloo processes: they share the election cases, agree on the teachers and stay equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lckd_gloo_workers
import pytest
import torch
from tiny_nnunet import differences


def run_two(tmp_path: Path, different: bool) -> list[dict[str, Any]]:
    arguments = (2, str(tmp_path / "store"), different, str(tmp_path))
    torch.multiprocessing.spawn(lckd_gloo_workers.work, arguments, nprocs=2)
    return [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.slow
def test_ranks_with_different_batches_agree(tmp_path: Path) -> None:
    first, second = run_two(tmp_path, different=True)
    assert differences(first["network"], second["network"]) == []
    assert differences(first["method"], second["method"]) == []
    assert first["mine"] == [0, 2] * 4 and second["mine"] == [1] * 4
    assert [election["cases"] for election in first["method"]["elections"]] == [3] * 4
    alone = lckd_gloo_workers.train(0, 1)
    assert differences(alone["network"], first["network"]) != []  # the other rank had a say


@pytest.mark.slow
def test_ranks_with_equal_batches_equal_one_process(tmp_path: Path) -> None:
    first, second = run_two(tmp_path, different=False)
    alone = lckd_gloo_workers.train(0, 1, different=False)
    used = [key for key in alone["network"] if "seg_layers.0" not in key]  # see test_two_ranks.py
    for run in (first, second):
        assert differences(*({key: each["network"][key] for key in used} for each in (run, alone))) == []
        assert differences(run["method"], alone["method"]) == []
