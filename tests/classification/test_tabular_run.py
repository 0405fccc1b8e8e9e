"""From a CSV with tables and volumes to the table of all 15 subsets."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from generated_subjects import write_sheet

from nnunetv2_mmkd.classification.tabular.run import TabularProtocol
from nnunetv2_mmkd.classification.tabular.volumes import read_on_grid, read_volumes
from nnunetv2_mmkd.cli import adni
from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.metakd import MetaKD


def test_the_defaults_are_the_papers() -> None:
    protocol = TabularProtocol()
    settings = protocol.train
    assert (settings.epochs, settings.lr, settings.lr_factor, settings.lr_every) == (100, 1e-3, 0.9, 10)
    assert settings.weight_decay == 5e-5 and protocol.balance == "smote"
    args = adni.build_parser().parse_args(["--csv", "a.csv"])
    assert (args.seeds, args.balance, args.grid) == (protocol.seeds, protocol.balance, protocol.grid)
    assert (args.epochs, args.batch_size) == (100, settings.batch_size)
    assert args.modality_dropout == settings.modality_dropout.name
    made = protocol.method("MetaKD", 1)
    assert isinstance(made, MetaKD)
    config = made.config
    assert (config.meta_optimizer, config.meta_lr, config.meta_interval, config.p) == ("sgd", 1e-2, 10, 1)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("balance", ["weights", "smote"])
def test_every_subset_is_scored(tmp_path: Path, balance: str, capsys: pytest.CaptureFixture[str]) -> None:
    if balance == "smote":
        pytest.importorskip("imblearn")
    file = write_sheet(tmp_path, 150)
    methods = ["MetaKD", "LCKD"] if balance == "weights" else ["ModalityDropout"]
    arguments = ["adni", "--csv", str(file), "-o", str(tmp_path / "out"), "--epochs", "3", "--grid", "8"]
    arguments += ["--seeds", "2", "--smooth", "2"] if balance == "weights" else []
    assert main([*arguments, "--disable_progress_bar", "--balance", balance, "--methods", *methods]) == 0
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert 12 < results["subset"].nunique() <= 15 and set(results["method"]) == set(methods)
    assert set(results["metric"]) == {"accuracy", "f1"}
    for name in ("accuracy", "f1"):
        text = (tmp_path / "out" / "tables" / f"{name}.md").read_text()
        assert "MetaKD, ADNI [printed]" in text and f"balance: {balance}" in text and "clinical:PTADDX" in text
    assert (tmp_path / "out" / "figures" / "accuracy_heat_map.png").is_file()
    assert "| Average |" in capsys.readouterr().out
    importance = tmp_path / "out" / "figures" / "importance.png"
    assert importance.is_file() == ("MetaKD" in methods)
    if importance.is_file():
        check_importance(pd.read_csv(importance.with_suffix(".csv")), tmp_path / "out" / "models")


def check_importance(drawn: pd.DataFrame, models: Path) -> None:
    """One picture over both seeds: mean and standard deviation of moving averages over two of three epochs."""
    seeds = [torch.load(models / f"MetaKD_seed{seed:02d}.pt", weights_only=True)["curves"] for seed in (0, 1)]
    assert set(drawn["panel"]) == {"MetaKD"} and set(drawn["trainings"]) == {2}
    for line, rows in drawn.groupby("line"):
        curves = [seed[f"importance/{line}"] for seed in seeds]
        assert curves[0] != curves[1] and len(curves[0]) == 3
        first, second = ([one, (one + two) / 2, (two + three) / 2] for one, two, three in curves)
        pairs = list(zip(first, second, strict=True))
        assert rows["mean"].tolist() == pytest.approx([(a + b) / 2 for a, b in pairs])
        assert rows["sd"].tolist() == pytest.approx([abs(a - b) / 2**0.5 for a, b in pairs])
    assert set(drawn["line"]) == {"clinical", "genomic", "biospecimen", "imaging"}


def test_volumes(tmp_path: Path) -> None:
    values = np.zeros((10, 12, 9), np.float32)
    values[2:8, 2:8, 2:8] = np.random.default_rng(0).normal(100, 5, (6, 6, 6))
    file = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(values, np.eye(4)), file)
    table = read_volumes([file, None], 8)
    assert table.shape == (2, 1, 8, 8, 8) and torch.isfinite(table).all()
    assert table[0].any() and not table[1].any() and table[0].abs().max() < 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 4, 4), np.nan, np.float32), "holds NaN"),
        (np.zeros((4, 4, 4), np.float32), "holds one value only"),
        (np.full((4, 4, 4), 7, np.float32), "holds one value only"),
        (np.zeros((4, 4, 4, 3), np.float32), "expected three axes"),
        (None, "cannot be read"),
    ],
)
def test_bad_volumes_are_named(tmp_path: Path, values: np.ndarray | None, message: str) -> None:
    file = tmp_path / "a.nii.gz"
    file.write_bytes(b"x")
    if values is not None:
        nib.save(nib.Nifti1Image(values, np.eye(4)), file)
    with pytest.raises(InputError, match=rf"a\.nii\.gz: .*{message}"):
        read_on_grid(file, 8)


def test_bad_settings_are_named() -> None:
    for bad, message in (
        ({"methods": ("LiMoE",)}, "LiMoE"),
        ({"balance": "more"}, "more"),
        ({"seeds": 0}, "0 seeds"),
    ):
        with pytest.raises(InputError, match=message):
            TabularProtocol(**bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="grid of 4"):
        read_volumes([], 4)
