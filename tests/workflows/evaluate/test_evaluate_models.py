"""``mmkd evaluate`` on real (untrained) models: all subsets at once, resuming, the card, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from evaluating import results, run, validation
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from tiny_nnunet import RESIDUAL, Home, start

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.evaluation.card import CARD_KEY
from nnunetv2_mmkd.evaluation.subsets import all_subset_names
from nnunetv2_mmkd.inference.all_subsets import AllSubsetsPredictor
from nnunetv2_mmkd.modalities import all_subsets
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerSharedStreams

CPU = torch.device("cpu")
NAMES = ("t1", "t1ce", "t2")


@pytest.mark.parametrize(("name", "folds"), [("ModalityDropout", (0,)), ("SharedStreams", (0, 1))])
def test_all_at_once_equals_one_by_one(home: Home, models: dict[str, Path], name: str, folds: tuple[int, ...]) -> None:
    """Bit for bit, with mirroring and folds averaged, whatever stands in a missing channel."""
    predictor = AllSubsetsPredictor(tile_step_size=0.5, use_mirroring=True, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(models[name]), folds)
    predictor.allowed_mirroring_axes = (0, 2)
    data = torch.randn(3, 20, 16, 15)
    subsets = all_subsets(3)
    together = predictor.predict_subsets(data, subsets)
    assert together.shape == (7, 2, 20, 16, 15)
    for subset, logits in zip(subsets, together, strict=True):
        other = torch.where(subset[:, None, None, None], data, torch.nan)
        predictor._current = subset
        assert torch.equal(predictor.predict_logits_from_preprocessed_data(other), logits)
    assert len({tuple(logits.flatten().tolist()) for logits in together}) == 7


@pytest.mark.usefixtures("no_figures_of_the_table")
def test_a_case_is_drawn_with_what_it_has(
    home: Home, copies: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """case_1 has no T2, so that of the chosen subsets only one is left to draw it with."""
    raw = home.raw / home.dataset(3, "regions")
    where = ["-i", str(raw / "imagesTr"), "-l", str(raw / "labelsTr"), "-f", "0"]
    how = [*where, "--metrics", "dice", "--subsets", "t1+t1ce+t2", "t1", "--overlay", "case_1"]
    assert run(tmp_path / "out", "-m", str(copies["SharedStreams"]), *how) == 0
    picture = tmp_path / "out" / "figures" / "overlay_case_1"
    assert picture.with_suffix(".png").is_file()
    again = [*how, "--overlay_subsets", "singles", "--overlay_brightness", "1.5"]  # nothing is predicted again
    assert run(tmp_path / "out", "-m", str(copies["SharedStreams"]), *again) == 1
    assert "--overlay_subsets: t1ce is not evaluated" in capsys.readouterr().err
    again[-3] = "t1"
    assert run(tmp_path / "out", "-m", str(copies["SharedStreams"]), *again) == 0
    assert set(pd.read_csv(picture.with_suffix(".csv"))["subset"]) == {"t1"}


def test_residual_encoder_in_two_dimensions(home: Home) -> None:
    trainer = home.trainer(nnUNetTrainerSharedStreams, home.dataset(5, "classes"), "2d", identifier=RESIDUAL)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(False)
    predictor = AllSubsetsPredictor(tile_step_size=1, use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, [trainer.network.state_dict()],
        trainer.dataset_json, "test", (0, 1),
    )  # fmt: skip
    data = torch.randn(5, 3, 18, 17)
    together = predictor.predict_subsets(data, all_subsets(5)[[0, 7, 30]])
    assert together.shape == (3, 3, 3, 18, 17)
    predictor._current = all_subsets(5)[7]
    assert torch.equal(predictor.predict_logits_from_preprocessed_data(data), together[1])


def test_command(
    home: Home, copies: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    out = tmp_path / "out"
    folders = [str(folder) for folder in copies.values()]
    assert run(out, "-m", *folders, "--metrics", "dice", "hd95", "--improvement", "SharedStreams") == 0
    assert "SharedStreams" in capsys.readouterr().out

    table = results(out)
    cases = validation(home, 0, 1)
    assert set(table["method"]) == {"ModalityDropout", "SharedStreams"} and set(table["case"]) == set(cases)
    for case in cases:
        possible = [s for s in all_subset_names(NAMES) if case != "case_1" or "t2" not in s]  # case_1 has no T2
        assert set(table[table["case"] == case]["subset"]) == set(possible)
    assert set(table["region"]) == {"whole", "core"} and set(table["metric"]) == {"dice", "hd95"}
    assert not table["value"].isna().any()

    # the Dice of a subset is what nnU-Net's own evaluation says of its segmentations
    folder = out / "predictions" / "SharedStreams" / "t1+t1ce"
    truth = home.preprocessed / home.dataset(3, "regions") / "gt_segmentations"
    theirs = compute_metrics_on_folder(
        str(truth), str(folder), None, SimpleITKIO(), ".nii.gz", [(1, 2), (2,)], None, 1, chill=True
    )
    for entry in theirs["metric_per_case"]:
        case = Path(entry["prediction_file"]).name.removesuffix(".nii.gz")
        for region, labels in (("whole", (1, 2)), ("core", (2,))):
            rows = table.query("method == 'SharedStreams' and subset == 't1+t1ce' and metric == 'dice'")
            rows = rows[(rows["case"] == case) & (rows["region"] == region)]
            assert rows["value"].tolist() == [pytest.approx(entry["metrics"][labels]["Dice"])]

    for name in ("summary.csv", "shapley.csv", "tables/dice.md", "tables/dice.tex", "tables/hd95.csv"):
        assert (out / name).is_file()
    pictures = {path.name for path in (out / "figures").glob("*.png")}
    assert {"dice_heat_map.png", "dice_change.png", "dice_contributions.png", "hd95_boxplots.png"} <= pictures
    assert any(name.startswith("overlay_case_") for name in pictures)

    # the card, and what a prediction makes of it
    model = copies["SharedStreams"]
    card = json.loads((model / "dataset.json").read_text())[CARD_KEY]
    assert set(card) == {"0", "1"}
    rows = table.query("method == 'SharedStreams' and subset == 't1' and region == 'whole' and metric == 'dice'")
    of_fold = rows[rows["case"].isin(validation(home, 0))]["value"]
    assert card["0"]["subsets"]["t1"]["whole"]["mean"] == pytest.approx(of_fold.mean(), abs=1e-6)
    images, predicted = tmp_path / "in", tmp_path / "predicted"
    images.mkdir()
    raw = home.raw / home.dataset(3, "regions") / "imagesTr"
    shutil.copy(raw / "case_3_0000.nii.gz", images)
    how = ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar", "-step_size", "1"]
    assert main(["predict", "-m", str(model), "-f", "0", "1", "-i", str(images), "-o", str(predicted), *how]) == 0
    report = json.loads((predicted / "mmkd_report.json").read_text())["cases"]["case_3"]
    assert report["expected"]["whole"]["dice"] == pytest.approx(rows["value"].mean(), abs=1e-4)
    assert report["expected"]["whole"]["cases"] == len(cases)

    # training fold 0 again drops its card and keeps the other
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    (tmp_path / "results" / home.dataset(3, "regions")).mkdir()
    again = Path(shutil.move(model, tmp_path / "results" / home.dataset(3, "regions")))
    start(home.trainer(nnUNetTrainerSharedStreams, home.dataset(3, "regions"), fold=0))
    kept = json.loads((again / "dataset.json").read_text())[CARD_KEY]
    assert kept == {"1": card["1"]}


@pytest.mark.usefixtures("no_figures_of_the_table")
def test_goes_on_where_it_stopped(home: Home, copies: dict[str, Path], tmp_path: Path) -> None:
    out, model = tmp_path / "out", copies["SharedStreams"]
    arguments = ["-m", str(model), "--metrics", "dice", "--subsets", "full", "t1c+t1", "--no_card"]
    assert run(out, *arguments, "-f", "0") == 0
    folder = out / "predictions" / "SharedStreams"
    assert CARD_KEY not in json.loads((model / "dataset.json").read_text())
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["t1+t1ce", "t1+t1ce+t2"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}
    first = results(out)
    lost = next(iter(before))
    lost.unlink()
    assert run(out, *arguments, "-f", "0", "1") == 0
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}
    assert {path for path in before if before[path] != after[path]} == {lost}
    assert set(results(out)["case"]) == set(validation(home, 0, 1))
    second = results(out)
    pd.testing.assert_frame_equal(
        second[second["case"].isin(first["case"])].reset_index(drop=True), first.reset_index(drop=True)
    )
    assert not list(out.rglob(".mmkd-partial*"))

    # another checkpoint under the same name is not mixed in
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    content["network_weights"] = {key: value * 2 for key, value in content["network_weights"].items()}
    torch.save(content, checkpoint)
    assert run(out, *arguments, "-f", "0") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")} == after
    assert run(out, *arguments, "-f", "0", "--overwrite") == 0
    assert set(results(out)["case"]) == set(validation(home, 0))


@pytest.mark.usefixtures("no_figures_of_the_table")
def test_folders_of_images_and_of_predictions(home: Home, copies: dict[str, Path], tmp_path: Path) -> None:
    dataset = home.raw / home.dataset(3, "regions")
    images, labels = tmp_path / "images", tmp_path / "labels"
    labels.mkdir()
    for case in ("case_2", "case_4"):  # as hospitals name files
        (images / case).mkdir(parents=True)
        shutil.copy(dataset / "labelsTr" / f"{case}.nii.gz", labels)
        for channel in (0, 2) if case == "case_4" else (0, 1, 2):  # case_4 comes without T1ce
            name = ("T1_pre", "T1_post", "T2w")[channel]
            shutil.copy(dataset / "imagesTr" / f"{case}_{channel:04d}.nii.gz", images / case / f"{case}_{name}.nii.gz")
    out, model = tmp_path / "out", copies["ModalityDropout"]
    where = ["-i", str(images), "-l", str(labels)]
    assert run(out, "-m", str(model), "-f", "0", "1", *where, "--metrics", "dice") == 0
    table = results(out)
    assert set(table[table["case"] == "case_4"]["subset"]) == {"t1", "t2", "t1+t2"}
    assert set(table[table["case"] == "case_2"]["subset"]) == set(all_subset_names(NAMES))
    page = (out / "report.html").read_text()
    assert "no file" in page and "image not found" not in page  # T1ce of case_4; all others are shown
    assert CARD_KEY not in json.loads((model / "dataset.json").read_text())  # not validation: no card

    given = out / "predictions" / "ModalityDropout"
    shutil.copytree(given, tmp_path / "given", ignore=shutil.ignore_patterns("*.json"))
    source = json.loads((dataset / "dataset.json").read_text())
    source["missing_modalities"] = {"case_4": ["T1ce"]}
    (labels / "dataset.json").write_text(json.dumps(source))
    again = tmp_path / "again"
    assert run(again, "--predictions", f"Mine={tmp_path / 'given'}", "-l", str(labels), "--metrics", "dice") == 0
    pd.testing.assert_frame_equal(results(again), table.assign(method="Mine"))


@pytest.fixture
def listed(home: Home) -> Iterator[Callable[..., None]]:
    """Writes splits of two folds and their test lists; the data set is as before afterwards."""
    folder = home.preprocessed / home.dataset(3, "regions")
    splits, tests = folder / "splits_final.json", folder / "mmkd_test_cases.json"
    before = splits.read_text()

    def write(*folds: list[str], train: str = "case_0") -> None:
        splits.write_text(json.dumps([{"train": [train], "val": ["case_3"]}, {"train": [train], "val": ["case_4"]}]))
        tests.write_text(json.dumps({"source": "this test", "folds": list(folds)}))

    yield write
    splits.write_text(before)
    tests.unlink(missing_ok=True)


@pytest.mark.usefixtures("no_figures_of_the_table")
def test_test_cases_are_predicted_by_the_folds_together(
    home: Home, copies: dict[str, Path], tmp_path: Path, listed: Callable[..., None]
) -> None:
    model, cases = copies["SharedStreams"], ["case_2", "case_5"]
    listed(cases, cases)
    out, chosen = tmp_path / "out", ["--metrics", "dice", "--subsets", "full", "t1"]
    assert run(out, "-m", str(model), "--test", *chosen) == 0
    assert set(results(out)["case"]) == set(cases)
    assert CARD_KEY not in json.loads((model / "dataset.json").read_text())  # not validation: no card
    images, labels = tmp_path / "images", tmp_path / "labels"
    for part, folder in (("imagesTr", images), ("labelsTr", labels)):
        folder.mkdir()
        for path in (home.raw / home.dataset(3, "regions") / part).iterdir():
            if path.name[:6] in cases:
                shutil.copy(path, folder)
    assert run(tmp_path / "folder", "-m", str(model), "-i", str(images), "-l", str(labels), *chosen) == 0
    pd.testing.assert_frame_equal(results(tmp_path / "folder"), results(out))
    assert run(out, "-m", str(model), *chosen) == 1  # validation cases are not mixed in
    listed(cases, ["case_2"])
    assert run(tmp_path / "one", "-m", str(model), "--test", "-f", "1", *chosen) == 0
    assert set(results(tmp_path / "one")["case"]) == {"case_2"}


def test_test_cases_that_will_not_do(
    home: Home,
    models: dict[str, Path],
    tmp_path: Path,
    listed: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    how = ["-m", str(models["SharedStreams"]), "--test"]
    assert run(tmp_path / "out", *how) == 1
    assert "`mmkd splits` writes it where a test list is given" in capsys.readouterr().err
    for folds, arguments, message in (
        ([["case_2"], ["case_5"]], [], "folds 0, 1 have different test lists: evaluate them one by one, -f"),
        ([["case_2"], []], ["-f", "1"], "fold 1 has no test cases"),
        ([["case_0"], ["case_0"]], [], "fold 0 trains on the test case case_0"),
        ([["case_2"], ["case_2"]], ["-f", "0", "-i", "x", "-l", "y"], "--test takes the cases from the data set"),
    ):
        listed(*folds)
        assert run(tmp_path / "out", *how, *arguments) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(tmp_path / "out", "--predictions", "Mine=x", "-l", "y", "--test")
