"""A model's whole life by nnU-Net's commands, for each kind of trainer.

Trained, stopped, continued, validated, predicted with a modality less, exported, installed, predicted again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.model_sharing.model_import import install_model_from_zip_file
from nnunetv2.run.run_training import run_training
from tiny_nnunet import Home, differences

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.methods.subset_kd import SubsetKDConfig
from nnunetv2_mmkd.trainer_variants import nnUNetTrainerSubsetKD as subset_kd

CPU = torch.device("cpu")
TRAINER = "nnUNetTrainerStops_3epochs_2iters"
STOPS = """
import os

from nnunetv2_mmkd.trainer_variants.{file} import {trainer}
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerStops({trainer}):
    def on_epoch_start(self):
        if str(self.current_epoch) == os.environ.get("TEST_STOPS_BEFORE"):
            raise KeyboardInterrupt
        super().on_epoch_start()


__getattr__ = suffix_resolver(globals())
"""


@dataclass(frozen=True)
class Life:
    """What a model's life left behind.

    Attributes:
        home: of the data set.
        dataset: name.
        modalities: how many the data set has.
        model: folder of the trained model.
        installed: folder of the installed one.
        out: folder of the predictions ``before`` the export and ``after`` the installation.
        latest: the checkpoint at the stop, after two of three epochs.
        final: the checkpoint at the end.
    """

    home: Home
    dataset: str
    modalities: int
    model: Path
    installed: Path
    out: Path
    latest: dict[str, Any]
    final: dict[str, Any]

    @property
    def methods(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The method's state at the stop and at the end."""
        return self.latest["mmkd"]["method"], self.final["mmkd"]["method"]

    def curves(self, group: str = "") -> dict[str, list[float]]:
        """Curves of a group, without the prefix."""
        logged = {key.removeprefix("mmkd/"): values for key, values in self.final["logging"].items() if "mmkd/" in key}
        return {key: values for key, values in logged.items() if key.startswith(group)}


def predict(home: Home, dataset: str, model: Path, out: Path) -> np.ndarray:
    """Probabilities of a case without T1ce."""
    images = out.parent / "case_3"
    images.mkdir(exist_ok=True)
    for image in (home.raw / dataset / "imagesTr").glob("case_3_*"):
        shutil.copy(image, images)
    where = ["-i", str(images), "-o", str(out), "-m", str(model), "-f", "0"]
    how = ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar"]
    assert main(["predict", *where, *how, "--missing", "T1c", "--save_probabilities"]) == 0
    report = json.loads((out / "mmkd_report.json").read_text())
    assert all("t1ce" not in entry["used"] for entry in report["cases"].values())
    assert sitk.ReadImage(str(out / "case_3.nii.gz")).GetSize()
    return np.load(out / "case_3.npz")["probabilities"]


def by_the_stock_predictor(life: Life, model: Path) -> np.ndarray:
    """Probabilities of a case with all modalities, by what ``nnUNetv2_predict`` runs."""
    images = life.home.raw / life.dataset / "imagesTr"
    files = [str(images / f"case_3_{channel:04d}.nii.gz") for channel in range(life.modalities)]
    predictor = nnUNetPredictor(tile_step_size=1, use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    return predictor.predict_from_files_sequential([files], None, save_probabilities=True)[0][1]


# -- what is particular to each method -------------------------------------------------------------------------------


def backbone(life: Life, *further: str) -> None:
    before, after = life.methods
    assert differences(before["decoder"], after["decoder"]) != []
    assert {key.split(".")[0] for key in life.final["network_weights"]} == {"encoders", "fusions", "decoder"}
    plans = json.loads((life.model / "plans.json").read_text())["mmkd"]
    assert plans["exclusive"] == ("regions" not in life.dataset)
    assert set(life.curves("loss/")) == {"loss/task", "loss/uni-modal", *further}


def rfnet(life: Life) -> None:
    backbone(life, "loss/region maps")


def task_alone(life: Life) -> None:
    assert life.methods == ({}, {})
    assert {key.split(".")[0] for key in life.final["network_weights"]} == {"encoders", "fusions", "decoder"}
    assert set(life.curves("loss/")) == {"loss/task"}


def image_decoders(life: Life) -> None:
    before, after = life.methods
    assert differences(before["decoders"], after["decoders"]) != []
    assert {key.split(".")[0] for key in life.final["network_weights"]} == {"encoders", "fusions", "decoder"}
    assert all(torch.tensor(values).isfinite().all() for values in life.curves("loss/").values())


def lckd(life: Life) -> None:
    before, after = (method["elections"] for method in life.methods)
    assert [election["iteration"] for election in before] == [0, 1, 2, 3]
    assert [election["iteration"] for election in after] == list(range(6))
    assert differences(before, after[:4]) == []
    split = json.loads((life.model / "fold_0" / "mmkd_election_split.json").read_text())
    assert not set(split["training"]) & set(split["election"])


def mst_kdnet(life: Life) -> None:
    before, after = life.methods
    assert differences(before["teacher"], after["teacher"]) != []
    assert [float(each["discriminator_optimizer"]["state"][0]["step"]) for each in (before, after)] == [4, 6]
    assert before["teacher"].keys() == life.final["network_weights"].keys()  # only the student is deployed
    assert differences(after["teacher"], life.final["network_weights"]) != []


def passion(life: Life) -> None:
    before, after = life.methods
    assert torch.equal(before["start"], after["start"]) and differences(before["beta"], after["beta"]) != []


def pmr(life: Life) -> None:
    before, after = life.methods
    assert before["centres"].shape == (3, 4, 4) and differences(before["centres"], after["centres"]) != []
    assert {key.split(".")[0] for key in life.final["network_weights"]} == {"encoders", "fusions", "decoder"}
    ratios = list(life.curves("imbalance ratio/").values())
    assert len(ratios) == 3 and [values[-1] for values in ratios] == after["ratio"].tolist()
    entropy = life.curves()["loss/entropy"]
    assert entropy[0] < 0 and torch.tensor(entropy[1:]).isnan().all()  # early


def shaspec(life: Life) -> None:
    before, after = life.methods
    assert differences(before["classifier"], after["classifier"]) != []
    assert {key.split(".")[0] for key in life.final["network_weights"]} == {
        "encoders", "specific", "fusions", "decoder",
    }  # fmt: skip
    assert json.loads((life.model / "plans.json").read_text())["mmkd"]["network"] == {"fill": "mean"}


def demoseg(life: Life) -> None:
    assert {key.split(".")[0] for key in life.final["network_weights"]} == {"encoder", "stems", "decoder"}
    options = json.loads((life.model / "plans.json").read_text())["mmkd"]["network"]
    assert options["gated"] and options["lenders"] == [["t1ce"], ["t1"]]
    assert max(life.curves("loss/")["loss/distillation"]) > 0  # 0 where no case kept two modalities


def dedicated(life: Life) -> None:
    before, after = life.methods
    assert differences(before["teacher"], after["teacher"]) != []
    terms = [key for key in after if isinstance(after[key], dict) and "optimizer" in after[key]]
    assert terms and all(float(after[key]["optimizer"]["state"][0]["step"]) == 6 for key in terms)
    assert not any("teacher" in key or "regressor" in key for key in life.final["network_weights"])
    assert "t1" in json.loads((life.model / "plans.json").read_text())["mmkd"]["subset"]
    assert set(life.curves("discriminator accuracy/")) == {f"discriminator accuracy/{key}" for key in terms}


def specialist(life: Life) -> None:
    assert differences(life.latest["network_weights"], life.final["network_weights"]) != []
    assert json.loads((life.model / "plans.json").read_text())["mmkd"]["subset"] == ["t1", "t2"]
    first = next(weights for weights in life.final["network_weights"].values() if weights.ndim > 1)
    assert first.shape[1] == 2
    before, after = (by_the_stock_predictor(life, model) for model in (life.model, life.installed))
    assert np.array_equal(before, after)


def moving_average(life: Life) -> None:
    before, after = life.methods
    assert (before["updates"], after["updates"]) == (4, 6)
    assert differences(before["ema"], after["ema"]) != []
    for checkpoint in (life.latest, life.final):  # the average is deployed, the trained weights are kept as well
        own = checkpoint["mmkd"]
        assert differences(checkpoint["network_weights"], own["method"]["ema"]) == []
        assert differences(checkpoint["network_weights"], own["network"]) != []
    file = life.installed / "fold_0" / "checkpoint_final.pth"
    installed = torch.load(file, weights_only=False)
    assert differences(installed["network_weights"], after["ema"]) == []
    average = np.load(life.out / "after" / "case_3.npz")["probabilities"]
    installed["network_weights"] = installed["mmkd"]["network"]
    torch.save(installed, file)
    assert not np.array_equal(average, predict(life.home, life.dataset, life.installed, life.out / "student"))


def simmlm(life: Life) -> None:
    assert {key.split(".")[0] for key in life.final["network_weights"]} == {"experts", "gate"}
    losses = life.curves("loss/")
    assert losses["loss/experts"][0] != 0 and torch.tensor(losses["loss/experts"][2]).isnan()
    assert torch.tensor(losses["loss/more"][0]).isnan() and losses["loss/more"][2] != 0
    report = json.loads((life.out / "after" / "mmkd_report.json").read_text())
    weights = report["cases"]["case_3"]["gate"]
    assert list(weights) == ["whole", "core"]
    for region in weights.values():  # T1ce was left out
        assert sum(region.values()) == pytest.approx(1, abs=1e-3) and region["t1ce"] == 0 and region["t2"] > 0


VOLUMES, SLICES = (3, "regions", "3d_fullres"), (2, "classes", "2d")
Row = tuple[str, str, tuple[int, str, str], Callable[[Life], None]]
ROWS: list[Row] = [
    ("RFNet", "", VOLUMES, rfnet),
    ("UHeMIS", "", SLICES, task_alone),
    ("UHVED", "", VOLUMES, image_decoders),
    ("RobustSeg", "", SLICES, image_decoders),
    ("RobustSeg", "_SFusion", SLICES, image_decoders),
    ("SFusion", "", SLICES, task_alone),
    ("LCKD", "", VOLUMES, lckd),
    ("MSTKDNet", "", VOLUMES, mst_kdnet),
    ("PASSION", "", SLICES, passion),
    ("PMR", "", VOLUMES, pmr),
    ("ShaSpec", "", SLICES, shaspec),
    ("DeMoSeg", "", SLICES, demoseg),
    ("SimMLM", "", (3, "classes", "2d"), simmlm),
    ("Specialist", "_t1_t2w", VOLUMES, specialist),
    ("ACN", "_t1_t2w", VOLUMES, dedicated),
    ("SMUNet", "_t1", SLICES, dedicated),
    ("SubsetKD", "", SLICES, moving_average),
    ("SubsetKD", "_MultiStream", (2, "regions", "3d_fullres"), moving_average),
]
"""File of the trainer, ending of its class, data set and configuration, further checks."""


@pytest.fixture
def half_is_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default SubsetKD averages such a short training over one step, and average and student are the same."""
    for trainer in (subset_kd.nnUNetTrainerSubsetKD, subset_kd.nnUNetTrainerSubsetKD_MultiStream):
        monkeypatch.setattr(trainer, "config", SubsetKDConfig(window=0.5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "ending", "data", "check"), ROWS, ids=[f"{row[0]}{row[1]}-{row[2][2]}" for row in ROWS]
)
def test_train_stop_continue_validate_predict_export(
    home: Home,
    file: str,
    ending: str,
    data: tuple[int, str, str],
    check: Callable[[Life], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    half_is_averaged: None,
) -> None:
    modalities, labels, configuration = data
    dataset = home.dataset(modalities, labels)
    file = f"nnUNetTrainer{file}"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "stops.py").write_text(STOPS.format(file=file, trainer=file + ending))
    monkeypatch.setenv("nnUNet_extTrainer", f"{os.environ['nnUNet_extTrainer']}{os.pathsep}{tmp_path / 'mine'}")
    model = tmp_path / "results" / dataset / f"{TRAINER}__nnUNetPlans__{configuration}"
    fold = model / "fold_0"

    monkeypatch.setenv("TEST_STOPS_BEFORE", "2")
    with pytest.raises(KeyboardInterrupt):
        run_training(dataset, configuration, 0, TRAINER, device=CPU)
    latest = torch.load(fold / "checkpoint_latest.pth", weights_only=False)
    monkeypatch.delenv("TEST_STOPS_BEFORE")
    run_training(dataset, configuration, 0, TRAINER, continue_training=True, device=CPU)
    final = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert (latest["mmkd"]["iteration"], final["mmkd"]["iteration"]) == (4, 6)
    assert all(len(values) == 3 for key, values in final["logging"].items() if key.startswith("mmkd/"))
    assert "foreground_mean" in json.loads((fold / "validation" / "summary.json").read_text())
    assert (fold / "mmkd_progress.png").is_file() and (fold / "progress.png").is_file()

    before = predict(home, dataset, model, tmp_path / "before")
    archive, elsewhere = tmp_path / "model.zip", tmp_path / "elsewhere"
    export_pretrained_model(dataset, str(archive), (configuration,), TRAINER, folds=(0,))
    elsewhere.mkdir()
    monkeypatch.setenv("nnUNet_results", str(elsewhere))
    install_model_from_zip_file(str(archive))
    installed = elsewhere / dataset / model.name
    assert np.array_equal(before, predict(home, dataset, installed, tmp_path / "after"))
    check(Life(home, dataset, modalities, model, installed, tmp_path, latest, final))


@pytest.mark.slow
def test_the_final_validation_alone_is_of_the_average(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half_is_averaged: None
) -> None:
    """``--val`` on a finished training: what is validated equals what a prediction with the model gives."""
    dataset = home.dataset(2, "classes")
    name = "nnUNetTrainerSubsetKD_1epochs_2iters"
    seen: list[dict[str, Any]] = []
    adopt = nnUNetPredictor.manual_initialization

    def look(self: Any, network: Any, *args: Any) -> None:
        seen.append({key: value.clone() for key, value in network.state_dict().items()})
        adopt(self, network, *args)

    monkeypatch.setattr(nnUNetPredictor, "manual_initialization", look)
    run_training(dataset, "2d", 0, name, device=CPU)
    run_training(dataset, "2d", 0, name, only_run_validation=True, device=CPU)
    model = tmp_path / "results" / dataset / f"{name}__nnUNetPlans__2d" / "fold_0"
    final = torch.load(model / "checkpoint_final.pth", weights_only=False)
    assert len(seen) == 2
    assert all(differences(each, final["mmkd"]["method"]["ema"]) == [] for each in seen)
