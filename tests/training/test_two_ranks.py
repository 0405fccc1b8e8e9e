"""Two gloo processes (nnU-Net's own DDP is for CUDA only): what is learned is the same on both.

So it is by construction, whatever is trained: network, modules of the method, averages, optimisers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gloo_trainings
import gloo_workers
import pytest
import torch
from tiny_nnunet import differences

Runs = dict[tuple[str, bool], dict[str, Any]]
LEARNED = ("network", "method", "optimizer")
BOTH_HAD_A_SAY = {
    "MetaKD, shared": ("network", "method"),
    "MetaKD, separate": ("network", "method"),
    "LCKD": ("network",),
    "MST-KDNet": ("network", "method/teacher", "method/discriminator"),
    "mmFormer": ("network", "method"),
    "RFNet": ("network", "method"),
    "M2FTrans": ("network", "method"),
    "ShaSpec": ("network", "method"),
    "DeMoSeg": ("network",),
    "ACN": ("network", "method/teacher", "method/entropy_adversarial", "method/regressor"),
    "SMU-Net": ("network", "method/teacher", "method/adversarial", "method/regressor"),
    "U-HeMIS": ("network",),
    "SFusion": ("network",),
    "U-HVED": ("network", "method/decoders"),
    "RobustSeg": ("network", "method/appearance", "method/decoders"),
    "SubsetKD, norms": ("network", "method/ema"),
    "SubsetKD, streams": ("network", "method/ema"),
    "PASSION": ("network", "method/preference"),
    "PMR": ("network", "method/centres", "method/ratio", "method/similarity"),
    "SimMLM": ("network",),
    **dict.fromkeys(gloo_trainings.REGULARISED, ("network",)),
}
"""What differs from a training on the first rank's batches alone."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Runs]:
    """What each of two processes learned."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(gloo_workers.work, (2, str(folder / "store"), str(folder)), nprocs=2)
    first, second = (torch.load(folder / f"{rank}.pt") for rank in (0, 1))
    return first, second


def part(run: dict[str, Any], path: str) -> Any:
    for key in path.split("/"):
        run = run[key]
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", gloo_trainings.TRAININGS)
def test_ranks_with_different_batches_stay_equal(ranks: tuple[Runs, Runs], name: str, one_thread: None) -> None:
    first, second = (runs[name, True] for runs in ranks)
    for learned in (*LEARNED, *["curves"] * (name == "PMR")):  # the curves of others are of each rank's own batches
        assert differences(first[learned], second[learned], learned) == []
    assert all(torch.isfinite(weight).all() for weight in first["network"].values())
    alone = gloo_workers.train(name, 0, 1)
    for path in BOTH_HAD_A_SAY[name]:
        assert differences(part(alone, path), part(first, path)) != [], path


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in gloo_trainings.TRAININGS if name not in gloo_trainings.EXCHANGING])
def test_ranks_with_equal_batches_equal_one_process(ranks: tuple[Runs, Runs], name: str, one_thread: None) -> None:
    """The mean of two equal gradients is exact.

    Without deep supervision nothing reaches the first head, whose missing gradient counts as zero on two ranks, so that
    weight decay moves it.
    """
    deep = name in ("mmFormer", "RFNet", "M2FTrans", "ShaSpec", "U-HeMIS", "SFusion", "U-HVED", "RobustSeg")
    alone = gloo_workers.train(name, 0, 1, different=False)
    for run in (runs[name, False] for runs in ranks):
        for learned in ("network", "method", "curves"):
            pair = [each[learned] if deep else without_first_head(each[learned]) for each in (run, alone)]
            assert differences(*pair, learned) == []
        assert differences({key: run["optimizer"][key] for key in alone["optimizer"]}, alone["optimizer"]) == []


def without_first_head(learned: Any) -> Any:
    if not isinstance(learned, dict):
        return learned
    return {key: without_first_head(value) for key, value in learned.items() if "seg_layers.0" not in str(key)}


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_stream_that_no_rank_had_moves_equally(ranks: tuple[Runs, Runs], shared: bool) -> None:
    """With separate streams each rank lacks some; weight decay moves even the one that none had."""
    learned = ranks[0]["MetaKD, shared" if shared else "MetaKD, separate", True]["network"]
    torch.manual_seed(0)
    initial = gloo_trainings.tiny_network(shared).state_dict()
    changed = {key for key in initial if not torch.equal(initial[key], learned[key])}
    for moved in ("encoders.0", "fusions", *(() if shared else ("encoders.1", "encoders.2"))):
        assert any(key.startswith(moved) for key in changed), moved


@pytest.mark.slow
def test_ranks_share_the_election_cases_and_agree(ranks: tuple[Runs, Runs]) -> None:
    first, second = (runs["LCKD", True] for runs in ranks)
    assert [run["own"]["election cases"] for run in (first, second)] == [[0, 2] * 4, [1] * 4]
    assert [election["cases"] for election in first["method"]["elections"]] == [3] * 4
    assert all(
        runs["LCKD", different]["own"]["parts"]["distillation"] > 0 for runs in ranks for different in (True, False)
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["norms", "streams"])
def test_the_average_is_another_network(ranks: tuple[Runs, Runs], kind: str) -> None:
    run = ranks[0][f"SubsetKD, {kind}", True]
    assert differences(run["network"], run["method"]["ema"]) != []
