"""``mmkd train``: nnU-Net's own command, our trainers found, errors that can be read."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from nnunetv2.run import run_training
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from refusals import refusal
from small_plans import DATASET, Plans, plans_for

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.paths import set_ext_trainer, trainer_folder
from nnunetv2_mmkd.trainer_lookup import find_trainer
from nnunetv2_mmkd.training.preflight import readable_pretrained

OK = ["train", "7", "3d_fullres", "0", "-device", "cpu"]


def test_flags_go_to_the_host_unchanged(data: Path, calls: list[tuple[list[str], str]]) -> None:
    before = list(sys.argv)
    flags = [*OK[1:], "-tr", "nnUNetTrainer", "--npz", "--val_best", "-num_gpus", "1"]
    assert main(["train", *flags]) == 0
    ((argv, variable),) = calls
    assert argv == ["mmkd train", *flags]
    assert variable.split(os.pathsep) == [trainer_folder(), str(data.parents[1] / "own")]
    assert sys.argv == before


def test_usage_is_the_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "-h"])
    assert caught.value.code == 0 and "--disable_checkpointing" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["train", "7", "3d_fullres"])
    assert caught.value.code == 2 and "required: fold" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nnUNet_preprocessed", "nnUNet_results"])
def test_variable_not_set(
    data: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(name)
    assert main(OK) == 1
    assert f"{name} is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["8", "3d_fullres", "0"], "Could not find a dataset with the ID 8"),
        (["Dataset008_Y", "3d_fullres", "0"], "nnUNetv2_plan_and_preprocess -d Dataset008_Y"),
        (["X", "3d_fullres", "0"], "data set 'X'"),
        (["7", "3d_lowres", "0"], "no configuration '3d_lowres'; it has 2d, 3d_fullres, heir, planned"),
        (["7", "3d_fullres", "five"], "fold must be a number"),
        (["7", "heir", "0"], "nnUNetv2_preprocess -d 7 -plans_name nnUNetPlans -c heir"),
        (["7", "2d", "0", "-p", "dataset"], "dataset.json has no 'configurations', so these are no plans of nnU-Net"),
        (["7", "planned", "0"], "nnUNetv2_preprocess -d 7 -plans_name nnUNetPlans -c planned"),
        (["7", "3d_fullres", "0", "-p", "OtherPlans"], "plans in this folder: nnUNetPlans.json"),
        (["7", "3d_fullres", "0", "-tr", "nnUNetTrainerMcKD"], "Did you mean: nnUNetTrainerM"),
        (["7", "3d_fullres", "0", "-pretrained_weights", "no.pth"], "no.pth does not exist"),
        (["7", "3d_fullres", "0", "-pretrained_weights", __file__], "cannot be read"),
    ],
)
def test_bad_arguments(
    data: Path, calls: list[object], flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *flags, "-device", "cpu"]) == 1
    assert message in capsys.readouterr().err
    assert not calls


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "'labels' is null: expected an object"),
        ({"labels": {"background": 0, "a": [1, 2], "b": 2}}, "has no 'regions_class_order': expected a list"),
        ({"missing_modalities": {"a": "T1"}}, "missing_modalities: 'a' is text: expected a list"),
        ({"missing_modalities": {"a": ["pd"]}}, "missing_modalities of case a: unknown modality 'pd'"),
        ({"missing_modalities": {"b": ["t1"]}}, "missing_modalities: the data set has no case 'b'"),
    ],
)
def test_broken_dataset_json(
    data: Path, calls: list[object], change: dict, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = data.parents[1] / "raw" / data.name / "labelsTr"
    labels.mkdir(parents=True)
    (labels / "a.nii.gz").touch()
    (data / "dataset.json").write_text(json.dumps({**DATASET, **change}))
    assert main([*OK, "-tr", "nnUNetTrainerMetaKD"]) == 1
    assert f"{data / 'dataset.json'}" in (error := capsys.readouterr().err) and message in error
    assert not calls


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"background": 0, "b": 1}},
        {"channel_names": {"0": "T2", "1": "T1"}},
        {"missing_modalities": {"a": ["T1"]}},
    ],
)
def test_a_data_set_that_was_changed_after_it_was_planned(
    data: Path, calls: list[object], change: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = data.parents[1] / "raw" / data.name
    raw.mkdir(parents=True)
    for content, code in (({**DATASET, **change}, 1), ({**DATASET, "missing_modalities": {}, "licence": "x"}, 0)):
        (data / "dataset.json").write_text(json.dumps(DATASET))
        (raw / "dataset.json").write_text(json.dumps(content))
        assert main([*OK, "-tr", "nnUNetTrainerMetaKD"]) == code
        assert len(calls) == 1 - code
    expected = f"differ in {next(iter(change))!r}: if the former is right, run `nnUNetv2_plan_and_preprocess -d 7`"
    assert expected in capsys.readouterr().err


def test_pretrained_of_another_topology(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pth"
    torch.save({"network_weights": torch.nn.Linear(2, 3).state_dict()}, file)
    with pytest.raises(InputError, match=f"{file} is from a model of another topology"), readable_pretrained(str(file)):
        load_pretrained_weights(torch.nn.Linear(2, 4), str(file))
    with pytest.raises(AssertionError), readable_pretrained(str(file)):
        raise AssertionError("something else")


@pytest.mark.parametrize("name", ["nnUNetTrainer", "nnUNetTrainerMetaKD", "nnUNetTrainerModalityDropout"])
def test_weights_are_compared_before_anything_is_made(
    data: Path, calls: list[object], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "dataset.json").write_text(json.dumps(DATASET))
    set_ext_trainer()
    trainer = find_trainer(name)
    for features, code in ((4, 0), (6, 1)):
        plans = PlansManager({**plans_for(features), "mmkd": {"modalities": ["t1", "t2"]}})
        network = trainer.build_network_architecture(plans, plans.get_configuration("3d_fullres"), 2, 2, True)
        file = data.parents[1] / f"{features}.pth"
        torch.save({"network_weights": network.state_dict()}, file)
        (data / "nnUNetPlans.json").write_text(json.dumps(plans_for(4)))
        assert main([*OK, "-tr", name, "-pretrained_weights", str(file)]) == code
    error = capsys.readouterr().err
    assert f"{file} is from a model of another topology" in error and "(6, " in error
    assert len(calls) == 1
    assert not list((data.parents[1] / "results").iterdir())


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "splits_final.json is an object: expected a list"),
        ('["a"]', "fold 0 is text: expected an object"),
        ('[{"train": ["a"]}]', "fold 0 has no 'val'"),
        ('[{"train": "a", "val": ["b"]}]', "'train' is text: expected a list"),
        ('[{"train": ["a"], "val": []}]', "'val' is empty"),
        ('[{"train": ["a", "a"], "val": ["b"]}]', "'train' has a twice"),
        ('[{"train": ["a", "b"], "val": ["b"]}]', "b is a training case and a validation case"),
        ('[{"train": ["a"], "val": ["../c"]}]', "the data set has no case '../c'"),
        ("[" * 100000, "nested too deeply"),
    ],
)
def test_broken_splits(
    data: Path, calls: list[object], splits: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "dataset.json").write_text(json.dumps(DATASET))
    for case in ("a", "b"):
        (data / "gt_segmentations" / f"{case}.nii.gz").touch()
    (data / "splits_final.json").write_text(splits)
    assert main([*OK, "-tr", "nnUNetTrainerMetaKD"]) == 1
    assert f"{data / 'splits_final.json'}" in (error := capsys.readouterr().err) and message in error
    assert not calls
    (data / "splits_final.json").write_text('[{"train": ["a"], "val": ["b"]}]')
    assert main([*OK, "-tr", "nnUNetTrainerMetaKD"]) == 0 and len(calls) == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: shutil.rmtree(f / "ready"), "ready does not exist: run `nnUNetv2_preprocess -d 7 -plans_name"),
        (lambda f: [file.unlink() for file in (f / "ready").iterdir()], "ready holds no cases: run `nnUNetv2_preproc"),
        (lambda f: (f / "ready" / "b.pkl").unlink(), "b.pkl does not exist: run `nnUNetv2_preprocess"),
        (lambda f: (f / "ready" / "a_seg.b2nd").unlink(), "a_seg.b2nd does not exist"),
        (lambda f: (f / "ready" / "b.b2nd").write_text(""), "b.b2nd is empty: run `nnUNetv2_preprocess"),
        (lambda f: (f / "gt_segmentations").rmdir(), "gt_segmentations does not exist, which nnU-Net needs"),
        (lambda f: (f / "dataset_fingerprint.json").unlink(), "dataset_fingerprint.json does not exist, which"),
    ],
)
def test_cases_that_are_not_ready(
    data: Path, calls: list[object], spoil: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(data)
    assert message in refusal(OK, capsys)
    assert not calls and not list((data.parents[1] / "results").iterdir())


def test_images_are_not_missing_by_their_names(
    data: Path, calls: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "dataset.json").write_text(json.dumps(DATASET))
    raw = data.parents[1] / "raw" / data.name
    for name in ("labelsTr/a.nii.gz", "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz.part"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).touch()
    assert main([*OK, "-tr", "nnUNetTrainerMetaKD"]) == 1
    assert "a_0001.nii.gz.part looks like a_0001.nii.gz (case a)" in capsys.readouterr().err
    assert not calls


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--val"], "checkpoint_final.pth does not exist; finish the training first"),
        (["--c", "--val"], "choose one of them"),
        (["--c", "-pretrained_weights", "WEIGHTS"], "-pretrained_weights is for the start of a training"),
        (["--val_best", "--disable_checkpointing"], "--val_best needs the checkpoints"),
        (["-num_gpus", "2"], "several devices are for -device cuda, not cpu"),
        (["-device", "mps"], "there is no MPS device here"),
        (["-device", "tpu"], "-device must be cuda, cpu or mps, not 'tpu'"),
        (["-tr", f"nnUNetTrainer{'x' * 300}"], "at most 255 work"),
    ],
)
def test_what_a_training_is_asked_for(
    data: Path, calls: list[object], flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = data.parent / "w.pth"
    if "WEIGHTS" in flags:
        (data / "dataset.json").write_text(json.dumps(DATASET))
        (data / "nnUNetPlans.json").write_text(json.dumps(plans_for(4)))
        plans = PlansManager(plans_for(4))
        trainer = find_trainer("nnUNetTrainer")
        net = trainer.build_network_architecture(plans, plans.get_configuration("3d_fullres"), 2, 2, True)
        torch.save({"network_weights": net.state_dict()}, weights)
    assert message in refusal([*OK, *(str(weights) if flag == "WEIGHTS" else flag for flag in flags)], capsys)
    assert not calls and not list((data.parents[1] / "results").iterdir())


def test_a_wrong_number_comes_before_the_device(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ID 8" in refusal(["train", "8", "3d_fullres", "0", "-device", "cuda"], capsys)


@pytest.mark.parametrize(
    ("channels", "cases", "message"),
    [({"0": "T1"}, 5, "MetaKD needs at least two"), ({"0": "T1", "1": "T2"}, 4, "mmkd splits patients -d 7 --folds 4")],
)
def test_too_few(
    data: Path, calls: list[object], channels: dict, cases: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "dataset.json").write_text(json.dumps({**DATASET, "channel_names": channels}))
    for case in range(cases):
        (data / "gt_segmentations" / f"{case}.nii.gz").touch()
    assert message in refusal([*OK, "-tr", "nnUNetTrainerMetaKD"], capsys)
    assert not calls


@pytest.mark.parametrize(("dataset", "fold"), [("7", "00"), ("Dataset007_X/", "0")])
def test_a_checkpoint_is_checked_however_fold_and_data_set_are_written(
    data: Path, calls: list[object], capsys: pytest.CaptureFixture[str], dataset: str, fold: str
) -> None:
    folder = data.parents[1] / "results" / data.name / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0"
    folder.mkdir(parents=True)
    (folder / "checkpoint_final.pth").write_bytes(b"no checkpoint")
    found = refusal(["train", dataset, "3d_fullres", fold, "-device", "cpu", "--c"], capsys)
    assert f"{folder / 'checkpoint_final.pth'} cannot be read (it is not a file of PyTorch)" in found and not calls


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: None, ""),
        (lambda c: c.pop("init_args"), "has no 'init_args'"),
        (lambda c: c["init_args"].update(fold=1), "init_args: 'fold' is 1, and this is fold 0"),
        (lambda c: c["init_args"].update(configuration="2d"), "init_args: 'configuration' is 2d, and this is"),
        (lambda c: c["init_args"].update(plans=[1]), "init_args: 'plans' is a list"),
        (lambda c: c["init_args"].update(dataset_json=None), "init_args: 'dataset_json' is null"),
        (
            lambda c: c["init_args"]["plans"].update(transpose_forward=[0, 2, 1]),
            "'transpose_forward' is [0, 1, 2], but",
        ),
        (lambda c: c.update(inference_allowed_mirroring_axes="x"), "mirroring_axes' is 'x'"),
        (lambda c: c.pop("optimizer_state"), "has no 'optimizer_state': the checkpoint is damaged"),
        (lambda c: c["logging"].pop("lrs"), "logging has no 'lrs'"),
    ],
)
def test_where_a_checkpoint_is_from(
    data: Path, calls: list[object], capsys: pytest.CaptureFixture[str], edit: Callable[[Plans], object], message: str
) -> None:
    (data / "dataset.json").write_text(json.dumps(DATASET))
    (data / "nnUNetPlans.json").write_text(json.dumps(plans_for(4)))
    plans = PlansManager(plans_for(4))
    network = find_trainer("nnUNetTrainer").build_network_architecture(
        plans, plans.get_configuration("3d_fullres"), 2, 2, True
    )
    origin = {"configuration": "3d_fullres", "fold": 0, "plans": plans_for(4), "dataset_json": DATASET}
    content: Plans = {"optimizer_state": {}, "grad_scaler_state": None, "_best_ema": None}
    content |= {"logging": LocalLogger().get_checkpoint(), "current_epoch": 0, "inference_allowed_mirroring_axes": [0]}
    content |= {"network_weights": network.state_dict(), "init_args": origin}
    edit(content)
    file = data.parents[1] / "results" / data.name / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0"
    file.mkdir(parents=True)
    torch.save(content, file / "checkpoint_latest.pth")
    if message:
        error = refusal([*OK, "--c"], capsys)
        assert str(file / "checkpoint_latest.pth") in error and message in error and not calls
    else:
        assert main([*OK, "--c"]) == 0 and len(calls) == 1


def test_a_failed_start_leaves_no_folder_and_a_fold_is_trained_once(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fold = data.parents[1] / "results" / data.name / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0"

    def start() -> None:
        assert f"in use by process {os.getpid()}" in refusal(OK, capsys)
        (fold / "training_log.txt").write_text("begun")
        raise InputError("the fold has no cases")

    monkeypatch.setattr(run_training, "run_training_entry", start)
    assert "the fold has no cases" in refusal(OK, capsys)
    assert not list((data.parents[1] / "results").iterdir())
    fold.mkdir(parents=True)
    (fold / "checkpoint_latest.pth").touch()
    assert "the fold has no cases" in refusal(OK, capsys)
    assert sorted(path.name for path in fold.iterdir()) == ["checkpoint_latest.pth", "training_log.txt"]
