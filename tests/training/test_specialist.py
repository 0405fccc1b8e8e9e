"""Specialists: names, cases, refusals, and that they are a stock nnU-Net on fewer channels."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
from tiny_nnunet import PLAIN, RESIDUAL, Home, differences, log_of, same_start, start, steps

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.networks.slabs import SlabConv3d
from nnunetv2_mmkd.training.pretrained import fitted
from nnunetv2_mmkd.training.specialist import parse_name, split_names

BRATS = ("t1", "t1ce", "t2", "flair")
CPU = torch.device("cpu")


def specialist(home: Home, names: str, *args: Any, **kwargs: Any) -> Any:
    return home.trainer(find(f"nnUNetTrainerSpecialist_{names}"), *args, **kwargs)


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t1", {"suffix_names": ("t1",)}),
        ("t1_t2", {"suffix_names": ("t1", "t2")}),
        ("t1_t2_300epochs_50iters", {"suffix_names": ("t1", "t2"), "suffix_epochs": 300, "suffix_iterations": 50}),
        ("3epochs_t1c_mr2468_seed7", {"suffix_names": ("t1c", "mr2468"), "suffix_epochs": 3, "suffix_seed": 7}),
        ("300epochs", None),
        ("t1_3epochs_4epochs", None),
        ("t1__t2", None),
        ("T1", None),
        ("t1_0epochs", None),
        ("", None),
    ],
)
def test_parts_of_a_name(text: str, expected: dict[str, Any] | None) -> None:
    assert parse_name(text) == expected


def test_endings_in_a_name() -> None:
    found = parse_name("_t1_recipe_3epochs_t2", {"_recipe": object()})
    assert found == {"suffix_names": ("t1", "t2"), "suffix_endings": ("_recipe",), "suffix_epochs": 3}
    assert parse_name("_recipe", {"_recipe": object()}) is None  # no modality


@pytest.mark.parametrize(
    ("names", "modalities", "subset", "tag"),
    [
        (("t1", "t2"), BRATS, ("t1", "t2"), None),
        (("t2w", "t1gd"), BRATS, ("t1ce", "t2"), None),  # aliases; channel order
        (("flair", "mr2468"), BRATS, ("flair",), "mr2468"),
        (("mr2468", "flair"), BRATS, ("flair",), "mr2468"),
        (("t1", "t2"), ("t1",), ("t1",), "t2"),  # what can be no modality may be a table
        (("t1", "dwib1000"), ("t1", "dwi_b1000"), ("t1", "dwi_b1000"), None),
    ],
)
def test_a_name_that_can_be_a_modality_is_one(
    names: tuple[str, ...], modalities: tuple[str, ...], subset: tuple[str, ...], tag: str | None
) -> None:
    assert split_names(names, modalities) == (subset, tag)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("t1", "pd", "dwi"), "unknown modality 'pd' .* this data set has t1, t1ce, t2, flair"),
        (("t1", "t1n"), "has the modality t1 twice"),
        (("mr2468",), "a specialist's name says its modalities, as nnUNetTrainerSpecialist_t1_t1ce, and not mr2468"),
        ((), "and not nothing"),
    ],
)
def test_names_that_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_names(names, BRATS)


def test_look_up(home: Home) -> None:
    trainer = specialist(home, "t2w_t1_7epochs_5iters_seed3")
    assert type(trainer).__name__ == "nnUNetTrainerSpecialist_t2w_t1_7epochs_5iters_seed3"
    assert (trainer.subset, trainer.modalities) == (("t1", "t2"), ("t1", "t1ce", "t2"))
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.seed) == (7, 5, 3)
    assert trainer.plans_manager.plans["mmkd"] == {
        "modalities": ["t1", "t1ce", "t2"], "exclusive": True, "subset": ["t1", "t2"],
    }  # fmt: skip
    for wrong in ("nnUNetTrainerSpecialist_7epochs", "nnUNetTrainerSpecialist_t1_0iters", "nnUNetTrainerSubset_t1"):
        with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer"):
            find(wrong)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("t1_pd", "'pd' is neither a modality .this data set has t1, t1ce, t2. nor .*mmkd_missing_pd.json"),
        ("t1_pd_dwi", "unknown modality 'pd'"),
        ("t1ce_t1c", "has the modality t1ce twice"),
    ],
)
def test_refused_when_it_meets_the_data_set(home: Home, tmp_path: Path, names: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        specialist(home, names)
    assert not (tmp_path / "results").exists()  # no folder was made


def test_the_command_says_what_the_data_set_has(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nnunetv2_mmkd.cli.main import main

    arguments = [home.dataset(), "3d_fullres", "0", "-tr", "nnUNetTrainerSpecialist_t1_pd_1epochs", "-device", "cpu"]
    assert main(["train", *arguments]) == 1
    error = capsys.readouterr().err
    assert "mmkd train: error: nnUNetTrainerSpecialist_t1_pd_1epochs: 'pd' is neither a modality" in error
    assert not (tmp_path / "results").exists()


def test_the_bare_class_is_refused(home: Home) -> None:
    with pytest.raises(InputError, match="a specialist's name says its modalities"):
        home.trainer(find("nnUNetTrainerSpecialist"))


# -- cases ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(home: Home) -> Iterator[Path]:
    """A missing-rate table after which only case_5 and case_4 have T1."""
    path = home.preprocessed / home.dataset() / "mmkd_missing_sp1.json"
    missing = {f"case_{number}": ["t1"] for number in range(4)}
    path.write_text(json.dumps({"rates": {}, "seed": 1, "source": "this test", "missing": missing}))
    yield path
    path.unlink()


def test_cases_that_lack_a_modality_are_left_out(home: Home) -> None:
    everyone = sorted(start(specialist(home, "t1_t1ce", fold="all")).cases.training)
    trainer = start(specialist(home, "t1_t2", fold="all"))
    assert sorted(trainer.cases.training) == [case for case in everyone if case != "case_1"]
    assert "case_1" not in trainer.cases.training_present and "case_1" not in trainer.cases.validation_present
    assert "1 of the fold's 6 training cases lack one of t1 + t2 and are left out: case_1" in log_of(trainer)
    assert "1 of the fold's 6 validation cases lack" in log_of(trainer)
    assert all(mask.all() for mask in trainer.cases.training_present.values())
    undeclared = start(specialist(home, "t2", fold="all", missing_modalities={}))  # its image is all zero
    assert "case_1" not in undeclared.cases.training_present
    assert "case_1" in start(specialist(home, "t1", fold="all", missing_modalities={})).cases.training_present


def test_a_table_leaves_out_training_cases_and_no_validation_case(home: Home, table: Path) -> None:
    trainer = start(specialist(home, "t1_sp1", fold="all"))
    assert sorted(trainer.cases.training) == ["case_4", "case_5"] and len(trainer.cases.validation_present) == 6
    assert sorted(start(specialist(home, "t2_sp1", fold="all")).cases.training) == [
        f"case_{i}" for i in (0, 2, 3, 4, 5)
    ]


def test_no_case_left_is_an_error_before_training(home: Home) -> None:
    none = {f"case_{number}": ["T1ce"] for number in range(6)}
    trainer = specialist(home, "t1ce_1epochs", missing_modalities=none)
    with pytest.raises(InputError, match="no training case of fold 0 has all of t1ce"):
        trainer.run_training()
    assert not list(Path(trainer.output_folder).glob("*.pth"))
    validated = home.json(home.dataset(), "splits_final.json")[0]["val"]
    trainer = specialist(home, "t1ce_1epochs", missing_modalities={case: ["T1ce"] for case in validated})
    with pytest.raises(InputError, match="no validation case of fold 0 has all of t1ce"):
        trainer.run_training()


def test_the_final_validation_leaves_out_the_same_cases(home: Home) -> None:
    trainer = start(specialist(home, "t1_t2_1epochs_1iters", fold="all"))
    (Path(trainer.output_folder) / "validation").mkdir()
    file = Path(trainer.output_folder) / "validation" / "case_2.nii.gz"
    file.symlink_to("/dev/full")
    with pytest.raises(InputError, match=rf"cannot write {file}"):
        trainer.perform_actual_validation()
    file.unlink()
    trainer.perform_actual_validation()
    summary = json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 5
    assert not (Path(trainer.output_folder) / "validation" / "case_1.nii.gz").exists()


# -- a stock nnU-Net on fewer channels ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "configuration", "labels"),
    [(PLAIN, "3d_fullres", "classes"), (RESIDUAL, "2d", "regions"), (RESIDUAL, "3d_fullres", "classes")],
)
@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_the_stock_step_on_two_channels(
    home: Home, identifier: str, configuration: str, labels: str, value: float | None
) -> None:
    """The data set of two modalities has the images of the first two of three, bit for bit."""
    two, three = home.dataset(2, labels), home.dataset(3, labels)
    stock = start(home.trainer(nnUNetTrainer, two, configuration, identifier=identifier))
    trainer = start(specialist(home, "t1ce_t1", three, configuration, identifier=identifier))
    assert type(stock.network) is type(trainer.network)
    assert differences(shapes(stock), shapes(trainer)) == []
    same_start(stock, trainer)
    batches = [next(trainer.dataloader_train) for _ in range(2)]
    reduced = copy.deepcopy(batches)
    for batch, fewer in zip(batches, reduced, strict=True):
        fewer["data"] = fewer["data"][:, :2].contiguous()
        if value is not None:
            batch["data"][:, 2] = value
    losses = steps(stock, reduced)
    assert np.isfinite(losses).all() and losses == steps(trainer, batches)
    assert differences(stock.network.state_dict(), trainer.network.state_dict()) == []
    stock.network.eval(), trainer.network.eval()
    with torch.no_grad():
        outputs = [net(batch[0]["data"]) for net, batch in ((stock.network, reduced), (trainer.network, batches))]
    assert differences(*outputs) == []


def test_the_step_depends_on_the_subset(home: Home) -> None:
    """The test above can fail."""
    one, other = start(specialist(home, "t1_t1ce")), start(specialist(home, "t1_t2"))
    same_start(one, other)
    batches = [next(other.dataloader_train)]
    assert steps(one, batches) != steps(other, batches)


def shapes(trainer: Any) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in trainer.network.state_dict().items()}


def test_stock_predictor_on_fewer_channels_gives_the_same_bits(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights under nnU-Net's own predictor: on two files, and on three of which one is not read."""
    monkeypatch.setattr(SlabConv3d, "_is_slow", lambda *_: False)  # the stock trainer's sums, in their order
    two, three = home.dataset(2, "classes"), home.dataset(3, "classes")
    stock = start(home.trainer(nnUNetTrainer, two))
    trainer = start(specialist(home, "t1_t1ce", three))
    same_start(stock, trainer)
    found = {}
    for each, dataset, channels in ((stock, two, 2), (trainer, three, 3)):
        each.save_checkpoint(str(Path(each.output_folder) / "checkpoint_final.pth"))
        predictor = nnUNetPredictor(tile_step_size=0.5, use_mirroring=True, device=CPU, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(each.output_folder_base, (0,))
        files = [str(home.raw / dataset / "imagesTr" / f"case_2_{channel:04d}.nii.gz") for channel in range(channels)]
        out = tmp_path / str(channels)
        out.mkdir()
        predictor.predict_from_files_sequential([files], [str(out / "case_2")], save_probabilities=True)
        found[channels] = np.load(out / "case_2.npz")["probabilities"]
    assert np.array_equal(found[2], found[3])
    with pytest.raises(ValueError, match="has 2 channels, this model has 3 modalities"):
        predictor.predict_from_files_sequential([files[:2]], [str(tmp_path / "no")])
    monkeypatch.setenv("nnUNet_missing_modalities", "t1")
    with pytest.raises(ValueError, match=r"t1 is missing: this model is a specialist for t1 \+ t1ce"):
        predictor.predict_sliding_window_return_logits(torch.rand(3, 16, 16, 16))


def test_pretrained_weights_of_a_stock_model_fit_by_name(home: Home, tmp_path: Path) -> None:
    stock = start(home.trainer(nnUNetTrainer, home.dataset(2, "classes")))  # t1 and t1ce
    file, key = tmp_path / "stock.pth", "encoder.stages.0.0.convs.0.conv.weight"
    stock.save_checkpoint(str(file))
    columns = stock.network.state_dict()[key]
    dataset = home.dataset()
    plans, dataset_json = home.json(dataset, f"{PLAIN}.json"), home.json(dataset)
    assert fitted(str(file), find("nnUNetTrainerSpecialist_t1_t1ce"), plans, "3d_fullres", dataset_json) is None
    for name, expected in (
        ("nnUNetTrainerSpecialist_t1ce", columns[:, 1:]),
        ("nnUNetTrainerSpecialist_t1_t2", torch.cat([columns[:, :1], columns.mean(1, keepdim=True)], 1)),
    ):
        found = fitted(str(file), find(name), plans, "3d_fullres", dataset_json)
        assert found is not None and torch.equal(found[0][key], expected), name
