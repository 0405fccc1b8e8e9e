"""PASSION and PMR in two gloo processes: network and what is learned of modalities stay equal, both have a say."""

from __future__ import annotations

from pathlib import Path

import passion_gloo_workers
import pytest
import torch
from tiny_nnunet import differences


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what each of two processes learned from batches of its own."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(passion_gloo_workers.work, (2, str(folder / "store"), True, str(folder)), nprocs=2)
    return folder


@pytest.mark.slow
def test_ranks_agree_on_the_preference(ranks: Path, one_thread: None) -> None:
    first, second = (torch.load(ranks / f"{rank}.pt") for rank in (0, 1))
    assert differences(first, second) == []
    alone = passion_gloo_workers.train(0, 1)
    assert differences(alone["network"], first["network"]) != []
    assert differences(alone["method"]["preference"], first["method"]["preference"]) != []


@pytest.mark.slow
def test_ranks_agree_on_prototypes_and_ratios(ranks: Path, one_thread: None) -> None:
    first, second = (torch.load(ranks / f"pmr_{rank}.pt") for rank in (0, 1))
    assert differences(first, second) == []
    alone = passion_gloo_workers.train_pmr(0, 1)
    for part in ("centres", "ratio", "similarity"):
        assert differences(alone["method"][part], first["method"][part]) != []
    assert differences(alone["network"], first["network"]) != []


@pytest.mark.slow
@pytest.mark.parametrize(("config", "recomputes"), passion_gloo_workers.REGULARISED)
def test_ranks_do_not_wait_for_students_that_one_has_not(
    ranks: Path, config: str, recomputes: bool, one_thread: None
) -> None:
    """nnU-Net's batch Dice exchanges sums of as many samples in each call: the students' stays within the rank."""
    first, second = (torch.load(ranks / f"{config}_{recomputes}_{rank}.pt") for rank in (0, 1))
    assert differences(first, second) == []
    alone = passion_gloo_workers.train_regularised(0, 1, config, recomputes)
    assert differences(alone["network"], first["network"]) != []
    assert all(torch.isfinite(weight).all() for weight in first["network"].values())
