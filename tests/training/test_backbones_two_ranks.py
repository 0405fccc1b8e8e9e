"""mmFormer, RFNet and M2FTrans in two gloo processes: network, auxiliary decoder and optimiser stay equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import backbone_gloo_workers
import pytest
import torch
from tiny_nnunet import differences

Runs = dict[tuple[str, bool], dict[str, Any]]
each_fusion = pytest.mark.parametrize("fusion", list(backbone_gloo_workers.FUSIONS))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Runs]:
    """What each of two processes learned."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(backbone_gloo_workers.work, (2, str(folder / "store"), str(folder)), nprocs=2)
    first, second = (torch.load(folder / f"{rank}.pt") for rank in (0, 1))
    return first, second


@pytest.mark.slow
@each_fusion
def test_ranks_with_different_subsets_stay_equal(ranks: tuple[Runs, Runs], fusion: str, one_thread: None) -> None:
    """The ranks lack different modalities, also in the warm-up that leaves the decoder alone."""
    first, second = (runs[fusion, True] for runs in ranks)
    assert differences(first, second) == []
    alone = backbone_gloo_workers.train(0, 1, fusion)
    for part in ("network", "method"):
        assert differences(alone[part], first[part]) != []  # the other rank had a say


@pytest.mark.slow
@each_fusion
def test_ranks_with_equal_batches_equal_one_process(ranks: tuple[Runs, Runs], fusion: str, one_thread: None) -> None:
    first, second = (runs[fusion, False] for runs in ranks)
    assert differences(first, second) == []
    assert differences(first, backbone_gloo_workers.train(0, 1, fusion, different=False)) == []
