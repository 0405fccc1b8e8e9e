"""MST-KDNet in two gloo processes: student, teacher, discriminator and both optimisers stay equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mst_gloo_workers
import pytest
import torch
from tiny_nnunet import differences


def run_two(tmp_path: Path, different: bool) -> list[dict[str, Any]]:
    torch.multiprocessing.spawn(mst_gloo_workers.work, (2, str(tmp_path / "store"), different, str(tmp_path)), nprocs=2)
    return [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.slow
def test_ranks_with_different_batches_stay_equal(tmp_path: Path) -> None:
    first, second = run_two(tmp_path, different=True)
    assert differences(first, second) == []
    alone = mst_gloo_workers.train(0, 1)
    assert differences(alone["network"], first["network"]) != []  # the other rank had a say
    for part in ("teacher", "discriminator"):
        assert differences(alone["method"][part], first["method"][part]) != []


@pytest.mark.slow
def test_ranks_with_equal_batches_equal_one_process(tmp_path: Path) -> None:
    first, second = run_two(tmp_path, different=False)
    alone = mst_gloo_workers.train(0, 1, different=False)
    assert differences(first, second) == []
    assert differences(first, alone) == []
