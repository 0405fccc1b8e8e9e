"""``mmkd splits`` and ``mmkd rates``, then ``nnUNetv2_train``: the table that was written is the one trained with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import run_training
from tiny_nnunet import Home

from nnunetv2_mmkd.cli.main import main

TRAINER = "nnUNetTrainerModalityDropout_mr22_1epochs_2iters"
RATES = ["t1=0.8", "t1ce=0.2", "t2=0.2"]


@pytest.fixture
def preprocessed(home: Home) -> Iterator[Path]:
    """Folder of a data set without splits or tables; what a test leaves there is removed."""
    folder = home.preprocessed / home.dataset()
    splits = folder / "splits_final.json"
    before = splits.read_text() if splits.is_file() else None
    splits.unlink(missing_ok=True)
    yield folder
    for path in (splits, *folder.glob("mmkd_*.json")):
        path.unlink(missing_ok=True)
    if before is not None:
        splits.write_text(before)


def train(home: Home, resume: bool = False) -> None:
    run_training(home.dataset(), "2d", 0, TRAINER, continue_training=resume, device=torch.device("cpu"))


def test_a_training_with_a_written_table(
    home: Home, preprocessed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = home.dataset()[len("Dataset") :].partition("_")[0]
    for role, cases in {"train": "0123", "val": "4", "test": "5"}.items():
        (tmp_path / f"{role}.txt").write_text("".join(f"case_{case}\n" for case in cases))
    assert main(["splits", "-d", number, *(str(tmp_path / f"{role}.txt") for role in ("train", "val", "test"))]) == 0
    assert main(["rates", "-d", number, "--tag", "mr22", "--rates", *RATES, "--seed", "5"]) == 0
    table = json.loads((preprocessed / "mmkd_missing_mr22.json").read_text())
    assert table["rates"] == {"t1": 0.8, "t1ce": 0.2, "t2": 0.2} and table["seed"] == 5
    shown = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("fold 0, training (4)"))

    train(home)
    (fold,) = (tmp_path / "results" / home.dataset()).glob(f"{TRAINER}__*/fold_0")
    assert json.loads((fold / "mmkd_missing_mr22.json").read_text()) == table
    saved = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert saved["mmkd"]["missing_table"] == table and saved["mmkd"]["iteration"] == 2
    (log,) = fold.glob("training_log_*.txt")
    told = ", ".join(
        f"{name} {float(rate):.3f}" for name, rate in zip(("t1", "t1ce", "t2"), shown.split()[-3:], strict=True)
    )
    assert (
        f"4 training cases, none held out, 1 validation cases; missing rates of the fold's training cases: {told}"
        in (" ".join(log.read_text().split()))
    )
    assert {path.name for path in (fold / "validation").glob("case_*.nii.gz")} == {"case_4.nii.gz"}

    assert main(["rates", "-d", number, "--tag", "mr22", "--rates", *RATES, "--seed", "6"]) == 1
    assert main(["rates", "-d", number, "--tag", "mr22", "--rates", *RATES, "--seed", "6", "--overwrite"]) == 0
    with pytest.raises(ValueError, match="is not the missing-rate table that this training was started with"):
        train(home, resume=True)
