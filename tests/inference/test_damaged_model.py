"""Damaged, mixed-up and diverged models: one line that names file and key, before the output begins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from test_checkpoint_file import Foreign, Payload
from tiny_model import plans, write_case

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.predictor import MMKDPredictor
from nnunetv2_mmkd.networks.finite import refuse_not_finite

Edit = Callable[[Any], object]


@pytest.fixture
def damaged(model: Path, tmp_path: Path) -> Path:
    """A copy of the model, to be damaged."""
    return Path(shutil.copytree(model, tmp_path / model.name))


def predict(model: Path, tmp_path: Path, *flags: str) -> int:
    write_case(tmp_path / "in", "a")
    where = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model), "-f", "0"]
    how = ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_progress_bar", "--disable_tta"]
    return main(["predict", *where, *how, *flags])


def edit_checkpoint(model: Path, edit: Edit, fold: int = 0) -> Path:
    file = model / f"fold_{fold}" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=True)
    edit(content)
    torch.save(content, file)
    return file


def edit_json(file: Path, edit: Edit) -> Path:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    return file


def refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *expected: str) -> None:
    assert predict(model, tmp_path) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("mmkd predict: error: ")
    assert all(text in line for text in expected), line
    assert not (tmp_path / "out").exists()


def mixed_up(content: dict[str, Any]) -> None:
    names = {"0": "T2", "1": "T1ce", "2": "T1"}
    dataset = {"channel_names": names, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
    content["init_args"]["dataset_json"] = dataset


def swapped(content: Any) -> None:
    names = {"0": "T1", "1": "T1ce", "2": "T2"}
    dataset = {"channel_names": names, "labels": {"background": 0, "b": 1, "a": 2}, "file_ending": ".nii.gz"}
    content["init_args"]["dataset_json"] = dataset


CHECKPOINTS: dict[str, tuple[Edit, str]] = {
    "no trainer": (lambda c: c.pop("trainer_name"), "has no 'trainer_name'"),
    "trainer of another type": (lambda c: c.update(trainer_name=3), "'trainer_name' is a whole number"),
    "unknown trainer": (
        lambda c: c.update(trainer_name="nnUNetTrainerGone"),
        "trainer nnUNetTrainerGone was not found",
    ),
    "trainer that is a path": (lambda c: c.update(trainer_name="../x"), "trainer ../x was not found"),
    "no arguments": (lambda c: c.pop("init_args"), "has no 'init_args'"),
    "arguments of another type": (lambda c: c.update(init_args=[1]), "'init_args' is a list"),
    "no configuration": (lambda c: c["init_args"].pop("configuration"), "init_args has no 'configuration'"),
    "unknown configuration": (lambda c: c["init_args"].update(configuration="2d"), "configuration '2d'"),
    "no weights": (lambda c: c.pop("network_weights"), "no 'network_weights'"),
    "weights that are a list": (lambda c: c.update(network_weights=[1]), "'network_weights' are not named tensors"),
    "weights that are numbers": (lambda c: c.update(network_weights={"a": 1}), "'network_weights' are not named"),
    "one weight too few": (lambda c: c["network_weights"].pop("head.bias"), "it has no head.bias"),
    "one weight too many": (lambda c: c["network_weights"].update(more=torch.zeros(1)), "it has more"),
    "another shape": (lambda c: c["network_weights"].update({"head.bias": torch.zeros(7)}), "(7,) instead of (3,)"),
    "NaN": (lambda c: c["network_weights"]["head.bias"].fill_(torch.nan), "head.bias in 'network_weights' is NaN"),
    "infinite": (lambda c: c["network_weights"]["head.bias"][0].fill_(-torch.inf), "head.bias in 'network_weights' is"),
    "axes that are text": (lambda c: c.update(inference_allowed_mirroring_axes="012"), "mirroring_axes' is '012'"),
    "axes of more dimensions": (lambda c: c.update(inference_allowed_mirroring_axes=(0, 3)), "from 0 to 2"),
    "another order of channels": (mixed_up, "'channel_names' has t1, t1ce, t2, but"),
    "another order of labels": (swapped, "'labels' has b = 2, a = 1, but"),
    "whole numbers": (
        lambda c: c["network_weights"].update({"head.bias": torch.zeros(3, dtype=torch.int64)}),
        "head.bias in 'network_weights' is a tensor of another kind (strided, int64, on cpu)",
    ),
    "an object": (lambda c: c.update(own=Foreign()), "--trust"),
    "sparse": (
        lambda c: c["network_weights"].update({"head.bias": torch.ones(3).to_sparse()}),
        "head.bias in 'network_weights' is a tensor of another kind (sparse_coo, float32, on cpu)",
    ),
    "complex": (
        lambda c: c["network_weights"].update({"head.bias": torch.ones(3, dtype=torch.complex64)}),
        "head.bias in 'network_weights' is a tensor of another kind (strided, complex64, on cpu)",
    ),
    "nowhere": (
        lambda c: c["network_weights"].update({"head.bias": torch.ones(3, device="meta")}),
        "head.bias in 'network_weights' is a tensor of another kind (strided, float32, on meta)",
    ),
    "a list for dataset.json": (lambda c: c["init_args"].update(dataset_json=[1]), "init_args: 'dataset_json' is a li"),
    "a list for plans": (lambda c: c["init_args"].update(plans=[1]), "init_args: 'plans' is a list"),
    "plans of another training": (
        lambda c: c["init_args"].update(plans={**plans(), "transpose_forward": [0, 2, 1]}),
        "'transpose_forward' is [0, 1, 2], but",
    ),
    "a stock trainer": (lambda c: c.update(trainer_name="nnUNetTrainer"), "'trainer_name' is nnUNetTrainer, whose net"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint(damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    edit, message = CHECKPOINTS[name]
    file = edit_checkpoint(damaged, edit)
    refused(damaged, tmp_path, capsys, str(file), message)


def test_a_checksum_that_is_another(damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = damaged / "fold_0" / "checkpoint_final.pth"
    content = bytearray(file.read_bytes())
    weight = next(iter(torch.load(file, weights_only=True)["network_weights"].values()))
    place = content.index(weight.numpy().tobytes())
    content[place] ^= 1
    file.write_bytes(content)
    refused(damaged, tmp_path, capsys, str(file), "cannot be read (it is damaged: the checksum of ", "copy it again")


@pytest.mark.parametrize("name", ["NaN", "another shape"])
def test_checkpoint_of_a_later_fold(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    edit, message = CHECKPOINTS[name]
    file = edit_checkpoint(damaged, edit, fold=1)
    assert predict(damaged, tmp_path, "-f", "0", "1") == 1
    assert str(file) in (error := capsys.readouterr().err) and message in error
    assert not (tmp_path / "out").exists()


def configuration(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["configurations"]["3d_fullres"]
    return found


FILES: dict[str, tuple[str, Edit, str]] = {
    "plans without configurations": ("plans.json", lambda c: c.pop("configurations"), "has no 'configurations'"),
    "plans without a reader": ("plans.json", lambda c: c.pop("image_reader_writer"), "has no 'image_reader_writer'"),
    "an unknown reader": ("plans.json", lambda c: c.update(image_reader_writer="No"), "'image_reader_writer' is 'No'"),
    "an unknown preprocessor": ("plans.json", lambda c: configuration(c).update(preprocessor_name="No"), "'No'"),
    "an unknown resampling": ("plans.json", lambda c: configuration(c).update(resampling_fn_seg="No"), "'No'"),
    "axes twice": ("plans.json", lambda c: c.update(transpose_forward=[0, 0, 1]), "'transpose_forward' is [0, 0, 1]"),
    "axes that do not turn back": (
        "plans.json",
        lambda c: c.update(transpose_forward=[1, 2, 0], transpose_backward=[1, 2, 0]),
        "'transpose_backward' [1, 2, 0]: expected 0, 1 and 2 in some order, and what turns that back",
    ),
    "no patch": ("plans.json", lambda c: configuration(c).pop("patch_size"), "has no 'patch_size'"),
    "a negative patch": ("plans.json", lambda c: configuration(c).update(patch_size=[16, -1, 16]), "'patch_size' is"),
    "spacing of text": ("plans.json", lambda c: configuration(c).update(spacing=["1", 1, 1]), "'spacing' is"),
    "other channels": (
        "plans.json",
        lambda c: configuration(c).update(use_mask_for_norm=[True]),
        "1 entries for 3",
    ),
    "inherits from nothing": ("plans.json", lambda c: configuration(c).update(inherits_from="x"), "3d_fullres"),
    "an order": (
        "plans.json",
        lambda c: configuration(c)["resampling_fn_probabilities_kwargs"].update(order=99),
        "resampling_fn_probabilities_kwargs: 'order' is 99",
    ),
    "a scheme": ("plans.json", lambda c: configuration(c).update(normalization_schemes=["No"] * 3), "'No'"),
    "no intensities": (
        "plans.json",
        lambda c: c["foreground_intensity_properties_per_channel"].pop("2"),
        "foreground_intensity_properties_per_channel has no '2'",
    ),
    "no percentiles": (
        "plans.json",
        lambda c: configuration(c).update(normalization_schemes=["CTNormalization"] * 3),
        "channel 0: 'mean' is None: CTNormalization needs a number",
    ),
    "a cascade": ("plans.json", lambda c: configuration(c).update(previous_stage="3d_fullres"), "belongs to a cascade"),
    "a layer": (
        "plans.json",
        lambda c: configuration(c)["architecture"]["arch_kwargs"].update(nonlin="torch.nn.No"),
        "'nonlin' is 'torch.nn.No'",
    ),
    "other names": ("plans.json", lambda c: c["mmkd"].update(modalities=["t2", "t1ce", "t1"]), "mixed up"),
    "fewer names": ("plans.json", lambda c: c["mmkd"].update(modalities=["t2"]), "mixed up"),
    "another format": (
        "dataset.json",
        lambda c: c.update(file_ending=".png"),
        "'file_ending' is .png, which the reader",
    ),
    "no labels": ("dataset.json", lambda c: c.pop("labels"), "has no 'labels'"),
    "more labels": ("dataset.json", lambda c: c["labels"].update(c=3), "head.weight has shape (3, 4, 1, 1, 1) instead"),
    "no file ending": ("dataset.json", lambda c: c.pop("file_ending"), "has no 'file_ending'"),
}


@pytest.mark.parametrize("name", FILES)
def test_json(damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    file, edit, message = FILES[name]
    edit_json(damaged / file, edit)
    refused(damaged, tmp_path, capsys, str(damaged), file, message)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"more": 1}, "plans.json, mmkd: nnUNetTrainerShaSpec knows no 'more'"),
        ({"network": {"fill": "mean", "fil": 1}}, "plans.json, mmkd, network: nnUNetTrainerShaSpec knows no 'fil'"),
        ({"network": {"fill": 3}}, "cannot be built from the configuration 3d_fullres (ShaSpec: fill must be one of"),
        ({"orientation": "LRS"}, "plans.json, mmkd: 'orientation' is 'LRS': expected where the three axes point to"),
        ({"orientation": 3}, "plans.json, mmkd: 'orientation' is a whole number: expected text"),
        ({"exclusive": False}, "mmkd: 'exclusive' is false, but dataset.json has classes"),
    ],
)
def test_what_the_plans_say_to_our_trainers(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, Any], message: str
) -> None:
    edit_json(damaged / "plans.json", lambda content: content["mmkd"].update(entry))
    edit_checkpoint(damaged, lambda content: content.update(trainer_name="nnUNetTrainerShaSpec"))
    refused(damaged, tmp_path, capsys, str(damaged), message)


@pytest.mark.parametrize("file", ["plans.json", "dataset.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, None])
def test_no_json(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: bytes | None
) -> None:
    (damaged / file).unlink()
    if content is None:
        (damaged / file).mkdir()
    else:
        (damaged / file).write_bytes(content)
    refused(damaged, tmp_path, capsys, str(damaged), file)


@pytest.mark.parametrize("card", [[1], {"0": {"subsets": {"t1+t1ce+t2": {"a": {"mean": "x", "cases": 1}}}}}])
def test_a_damaged_performance_card_stops_nothing(
    damaged: Path, tmp_path: Path, card: Any, caplog: pytest.LogCaptureFixture
) -> None:
    edit_json(damaged / "dataset.json", lambda content: content.update(mmkd_performance=card))
    assert predict(damaged, tmp_path) == 0
    assert (tmp_path / "out" / "a.nii.gz").is_file()
    assert "'mmkd_performance'" in caplog.text and "is damaged" in caplog.text


def overflow(content: dict[str, Any]) -> None:
    """Finite weights, infinite logits."""
    content["network_weights"]["head.weight"].fill_(3e38)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_output_that_overflows(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    edit_checkpoint(damaged, overflow)
    assert predict(damaged, tmp_path, "-npp", workers, "-nps", workers) == 1
    assert "case a: the network's output is NaN or infinite" in capsys.readouterr().err
    assert not (tmp_path / "out" / "a.nii.gz").exists()
    predictor = MMKDPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(damaged), (0,))
    with pytest.raises(InputError, match="output is NaN or infinite"):
        predictor.predict_case({"t1": tmp_path / "in" / "a_0000.nii.gz"})


def test_nnunets_own_predictor_refuses_too() -> None:
    """What the base trainer registers on every network, without any predictor of ours."""
    network = refuse_not_finite(torch.nn.Conv3d(2, 3, 1))
    good = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError, match="the weights bias are NaN"):
        network.load_state_dict({**good, "bias": torch.full((3,), torch.nan)})
    network.load_state_dict({**good, "weight": torch.full_like(good["weight"], 3e38)})
    image = torch.full((1, 2, 4, 4, 4), 1e9)
    assert not torch.isfinite(network(image)).any()  # a training step: nothing is looked at
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False)
    predictor.network, predictor.allowed_mirroring_axes = network, None
    with pytest.raises(InputError, match="output is NaN or infinite"):
        predictor._internal_maybe_mirror_and_predict(image)


def test_a_payload_runs_on_trust_only(damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = edit_checkpoint(damaged, lambda content: content.update(own=Payload(tmp_path / "ran")))
    refused(damaged, tmp_path, capsys, str(file), "--trust")
    predictor = MMKDPredictor(device=torch.device("cpu"))
    with pytest.raises(InputError, match="trust=True"):
        predictor.initialize_from_trained_model_folder(str(damaged), (0,))
    assert not (tmp_path / "ran").exists()
    predictor.initialize_from_trained_model_folder(str(damaged), (0,), trust=True)
    assert (tmp_path / "ran").exists()
    assert predict(damaged, tmp_path, "--trust") == 0


def test_folders_next_to_images_in_nnunets_naming_are_named(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "in" / "b" / "T1.nii.gz").touch()
    assert predict(model, tmp_path, "--dry_run") == 0
    assert "folders in it are not read: b" in caplog.text
