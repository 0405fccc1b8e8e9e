"""PASSION in two gloo processes: the network and the gradient weights stay equal, and both ranks have a say."""

from __future__ import annotations

from pathlib import Path

import passion_gloo_workers
import pytest
import torch
from tiny_nnunet import differences


@pytest.mark.slow
def test_ranks_agree_on_the_preference(tmp_path: Path) -> None:
    arguments = (2, str(tmp_path / "store"), True, str(tmp_path))
    torch.multiprocessing.spawn(passion_gloo_workers.work, arguments, nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert differences(first, second) == []
    alone = passion_gloo_workers.train(0, 1)
    assert differences(alone["network"], first["network"]) != []
    assert differences(alone["method"]["preference"], first["method"]["preference"]) != []
