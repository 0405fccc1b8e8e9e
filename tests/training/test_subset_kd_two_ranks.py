"""SubsetKD in two gloo processes: the network and its average stay equal, by construction."""

from __future__ import annotations

from pathlib import Path

import pytest
import subset_kd_gloo_workers
import torch
from tiny_nnunet import differences


@pytest.mark.slow
def test_ranks_stay_equal_and_equal_batches_equal_one_process(tmp_path: Path, one_thread: None) -> None:
    torch.multiprocessing.spawn(subset_kd_gloo_workers.work, (2, str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert differences(first, second) == []
    for kind in subset_kd_gloo_workers.KINDS:
        different, equal = first[kind, True], first[kind, False]
        alone = subset_kd_gloo_workers.train(0, kind)
        assert differences(alone["network"], different["network"]) != []  # the other rank had a say
        assert differences(alone["method"]["ema"], different["method"]["ema"]) != []
        assert differences(different["network"], different["method"]["ema"]) != []
        assert differences(equal, subset_kd_gloo_workers.train(0, kind, different=False)) == []
