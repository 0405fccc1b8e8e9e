"""``mmkd figure``: pictures of trainings and tables, the numbers behind them, and what cannot be drawn."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.evaluation.figures import style

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
import tiny_model

NAN = float("nan")
IMPORTANCE = {"t1": [0.2, 0.2, 0.1], "t1ce": [0.5, 0.6, 0.7], "t2": [0.3, 0.2, 0.2]}


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "DPI", 40)


def trained(
    root: Path, name: str, curves: Mapping[str, Sequence[float]], fold: int = 0, elections: Sequence[Any] = ()
) -> Path:
    """A model folder whose checkpoint holds what a training has logged."""
    folder = root / f"nnUNetTrainer{name}__nnUNetPlans__3d_fullres"
    (folder / f"fold_{fold}").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(tiny_model.plans()))
    names = {str(channel): modality for channel, modality in enumerate(tiny_model.MODALITIES)}
    content = {"channel_names": names, "labels": {"background": 0, "WT": 1, "ET": 2}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**content, "numTraining": 1}))
    checkpoint = {
        "network_weights": {},
        "trainer_name": f"nnUNetTrainer{name}",
        "logging": {"train_losses": [1.0], **{f"mmkd/{key}": list(values) for key, values in curves.items()}},
        "mmkd": {"method": {"elections": [{"winners": list(each)} for each in elections]} if elections else {}},
    }
    torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def numbers(png: Path) -> pd.DataFrame:
    assert png.stat().st_size > 2000
    return pd.read_csv(png.with_suffix(".csv"))


def test_importance_with_errors_over_seeds(tmp_path: Path) -> None:
    curves = {f"importance/{name}": values for name, values in IMPORTANCE.items()}
    other = {**curves, "importance/t1": [0.4, 0.2, NAN]}
    folders = [trained(tmp_path, f"MetaKD_3epochs_seed{seed}", each) for seed, each in enumerate((curves, other))]
    folders.append(trained(tmp_path, "MCKD_3epochs", curves))
    png = tmp_path / "importance.png"
    assert main(["figure", "importance", "-m", *map(str, folders), "-o", str(png)]) == 0
    table = numbers(png).set_index(["panel", "line", "epoch"])
    assert set(table.index.get_level_values("panel")) == {"MetaKD", "MCKD"}
    first = table.loc["MetaKD", "T1", 0]
    assert (
        first["mean"] == pytest.approx(0.3) and first["sd"] == pytest.approx(0.2 / 2**0.5) and first["trainings"] == 2
    )
    last = table.loc["MetaKD", "T1", 2]
    assert last["mean"] == pytest.approx(0.1) and pd.isna(last["sd"]) and last["trainings"] == 1
    assert main(["figure", "importance", "-m", str(folders[2]), "-o", str(png), "--smooth", "2"]) == 0
    smooth = numbers(png).set_index(["line", "epoch"])["mean"]
    assert smooth["T1ce"].tolist() == pytest.approx([0.5, 0.55, 0.65])


def test_preference_of_several_runs_in_one_plot(tmp_path: Path) -> None:
    curves = {f"relative preference/{name}": [0.1, -0.2] for name in tiny_model.MODALITIES}
    names = ("PASSION_baseline_2epochs", "PASSION_2epochs")
    folders = [trained(tmp_path, name, curves) for name in names]
    png = tmp_path / "preference.png"
    assert main(["figure", "preference", "-m", *map(str, folders), "-o", str(png)]) == 0
    table = numbers(png)
    assert list(table["panel"].unique()) == ["T1", "T1ce", "T2"]
    assert list(table["line"].unique()) == ["PASSION_baseline", "PASSION"]


def test_election_shares_by_region(tmp_path: Path) -> None:
    curves = {f"single-modality Dice of {region}/t1": [0.5] for region in ("WT", "ET")}
    won = [[("t1", "t1ce"), ("t1", None)], [("t2", "t1ce"), ("t1", "t1ce")]]
    folders = [trained(tmp_path, f"LCKD_seed{seed}", curves, elections=each) for seed, each in enumerate(won)]
    png = tmp_path / "elections.png"
    assert main(["figure", "elections", "-m", *map(str, folders), "-o", str(png)]) == 0
    shares = numbers(png).set_index(["region", "modality"])["share"]
    assert shares["WT"].to_dict() == {"t1": 0.75, "t1ce": 0, "t2": 0.25, "nobody": 0}
    assert shares["ET"].to_dict() == {"t1": 0, "t1ce": 0.75, "t2": 0, "nobody": 0.25}


def sweep_results(file: Path, dice: Mapping[str, Sequence[float]]) -> Path:
    rows = [
        (method, seed, case, subset, region, "dice", value + shift)
        for method, values in dice.items()
        for seed, value in enumerate(values)
        for case, shift in (("a", -0.1), ("b", 0.1))
        for subset in ("t1", "t2")
        for region in ("WT", "ET")
    ]
    names = ["method", "seed", "case", "subset", "region", "metric", "value"]
    pd.DataFrame(rows, columns=names).to_csv(file, index=False)
    return file


def test_alpha_of_the_trainers_configurations(tmp_path: Path) -> None:
    dice = {"MetaKD_alpha0": [0.3, 0.5], "MetaKD_2epochs": [0.6, 0.6], "MetaKD_alpha05": [0.5], "MetaKD_p2": [0.45],
            "MetaKD_mr2468": [0.3],
            "ModalityDropout": [0.2], "my own": [0.1]}  # fmt: skip
    file, png = sweep_results(tmp_path / "results_by_seed.csv", dice), tmp_path / "alpha.png"
    assert main(["figure", "alpha", "-i", str(file), "-o", str(png), "--subsets", "T1", "--regions", "ET"]) == 0
    table = numbers(png).fillna({"variant": ""}).set_index(["variant", "x"])
    assert list(table.index) == [("", 0.0), ("", 0.1), ("p = 2", 0.1), ("", 0.5)] and set(table["panel"]) == {"MetaKD"}
    assert table["mean"].tolist() == pytest.approx([40, 60, 45, 50]) and set(table["region"]) == {"ET"}
    assert table.loc[("", 0.0), "sd"] == pytest.approx(20 / 2**0.5) and pd.isna(table.loc[("", 0.5), "sd"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["importance", "-m", "DROPOUT"], "ModalityDropout logs no curve 'importance', it has loss; `mmkd figure "
         "importance` is for trainings of MetaKD or MCKD"),
        (["preference", "-m", "DROPOUT"], "for trainings of PASSION or PASSION_baseline"),
        (["elections", "-m", "DROPOUT"], "ModalityDropout has held no election; `mmkd figure elections` is"),
        (["importance", "-m", "EMPTY"], "the curve 'importance' of MetaKD has no value yet: train longer"),
        (["importance", "-m", "DROPOUT", "-f", "3"], "has no checkpoint_final.pth for fold 3; folds with it: 0"),
        (["alpha", "-i", "CSV"], "no method with several alphas among MetaKD, ModalityDropout"),
        (["alpha", "-i", "CSV", "--subsets", "flair"], "no subset 'flair'"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    made = {
        "DROPOUT": trained(tmp_path, "ModalityDropout", {"loss/task": [0.5]}),
        "EMPTY": trained(tmp_path, "MetaKD", {"importance/t1": [NAN]}),
        "CSV": sweep_results(tmp_path / "results.csv", {"MetaKD": [0.5], "ModalityDropout": [0.2]}),
    }
    png = tmp_path / "out.png"
    assert main(["figure", *(str(made.get(word, word)) for word in arguments), "-o", str(png)]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alpha", "-m", "x"], "alpha is drawn from tables of results"),
        (["importance", "-i", "x.csv"], "importance is drawn from models"),
        (["importance"], "give the models by -d, -c and -tr, or by -m"),
        (["importance", "-d", "501", "-c", "2d"], "need the trainers, -tr"),
        (["loss", "-m", "x"], "invalid choice: 'loss'"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit):
        main(["figure", *arguments, "-o", "x.png"])
    assert message in capsys.readouterr().err
