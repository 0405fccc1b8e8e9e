"""``mmkd predict --uncertainty``: numbers by hand, maps, nothing else changed."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.special import entr
from tiny_model import MODALITIES, image_of, read, write, write_case
from tiny_nnunet import Home, environment, set_variables, untrained

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.confidence import RegionConfidence, mean_probability, overlap
from nnunetv2_mmkd.inference.expectations import confidence_line
from nnunetv2_mmkd.inference.model_folder import read_model
from nnunetv2_mmkd.inference.predictor import MMKDPredictor
from nnunetv2_mmkd.inference.uncertainty import regions_of
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerSharedStreams
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout

HOW = ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_progress_bar"]
REGIONS = {"a": 1, "b": 2}
"""Of the tiny model."""


def predict(model: Path, folder: Path, out: str, *arguments: str) -> dict[str, Any]:
    """The cases of the report."""
    argv = ["predict", "-m", str(model), "-i", str(folder / "in"), "-o", str(folder / out), *HOW, *arguments]
    assert main(argv) == 0
    return json.loads((folder / out / "mmkd_report.json").read_text())["cases"]


def dice(first: np.ndarray, second: np.ndarray) -> float | None:
    total = first.sum() + second.sum()
    return 2 * (first & second).sum() / total if total else None


def test_numbers_are_those_of_all_passes(model: Path, tmp_path: Path) -> None:
    """A case that fits into one window: the mean of all folds and mirrorings, taken here one by one."""
    for channel in (0, 2):
        write(tmp_path / "in" / f"x_{channel:04d}.nii.gz", image_of("x", channel, (12, 13, 14)), (1.0, 1.0, 1.0))
    found = predict(model, tmp_path, "out", "-f", "0", "1", "--uncertainty")["x"]["uncertainty"]

    predictor = MMKDPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0, 1))
    files = [str(tmp_path / "in" / "x_0000.nii.gz"), str(tmp_path / "in" / "x_0002.nii.gz")]
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    reader = predictor.plans_manager.image_reader_writer_class()
    images, properties = reader.read_images([files[0], f"mmkd-missing:/x_0001{'.nii.gz'}", files[1]])
    data, _, _ = preprocessor.run_case_npy(
        images, None, properties, predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    )
    lacking = [max(0, 16 - size) for size in data.shape[1:]]
    padding = [(0, 0), *((each // 2, each - each // 2) for each in lacking)]
    x = torch.from_numpy(np.pad(np.asarray(data), padding))[None].float()
    window = tuple(slice(before, before + size) for (before, _), size in zip(padding[1:], data.shape[1:], strict=True))
    passes = []
    with torch.inference_mode():
        for parameters in predictor.list_of_parameters:
            predictor.network.load_state_dict(parameters)
            for count in range(4):
                for axes in itertools.combinations((2, 3, 4), count):
                    logits = predictor.network(x.flip(axes), available=torch.tensor([True, False, True])).flip(axes)
                    passes.append(logits.softmax(1)[0][(slice(None), *window)].numpy())
    assert len(passes) == 16
    mean = np.mean(passes, 0)
    segmented = read(tmp_path / "out" / "x.nii.gz")
    inside = properties["bbox_used_for_cropping"]
    segmented = segmented[tuple(slice(*bounds) for bounds in inside)]
    for region, value in REGIONS.items():
        p, mask = mean[value], segmented == value
        numbers = found[region]
        assert mask.any() and numbers["probability"] == pytest.approx(p[mask].mean(), abs=2e-3)
        bits = (entr(p) + entr(1 - p)) / np.log(2)
        image = read(tmp_path / "out" / numbers["map"])
        assert np.abs(image[tuple(slice(*bounds) for bounds in inside)] - 100 * bits).max() < 1.5
        outside = np.ones(image.shape, bool)
        outside[tuple(slice(*bounds) for bounds in inside)] = False
        assert outside.any() and not image[outside].any()


def test_nothing_else_changes(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Segmentations, probabilities and the rest of the report are the same to the bit, and so is a part of the run."""
    write_case(tmp_path / "in", "a")
    write_case(tmp_path / "in", "b", (1, 2))
    write_case(tmp_path / "in", "c", (1,))
    plain = predict(model, tmp_path, "plain", "-f", "0", "1", "--save_probabilities")
    sure = predict(model, tmp_path, "sure", "-f", "0", "1", "--save_probabilities", "--uncertainty")
    for case in "abc":
        outs = [tmp_path / out / case for out in ("plain", "sure")]
        assert len({out.with_suffix(".nii.gz").read_bytes() for out in outs}) == 1
        assert np.array_equal(*(np.load(out.with_suffix(".npz"))["probabilities"] for out in outs))
        assert "uncertainty" not in plain[case]
        assert {name: value for name, value in sure[case].items() if name != "uncertainty"} == plain[case]
    assert [list(sure[case]["uncertainty"]["a"]["without"]) for case in "abc"] == [list(MODALITIES), ["t1ce", "t2"], []]
    assert sure["c"]["uncertainty"]["a"]["leans_on"] is None
    assert not (tmp_path / "plain" / "uncertainty").exists()
    before, names = (
        [str(path.relative_to(tmp_path / out)) for path in (tmp_path / out).rglob("*") if path.is_file()]
        for out in ("plain", "sure")
    )
    extra = [f"uncertainty/{case}.json" for case in "abc"]
    extra += [f"uncertainty/{region}/{case}.nii.gz" for region in REGIONS for case in "abc"]
    assert sorted(names) == sorted([*before, *extra])
    image, original = (sitk.ReadImage(str(tmp_path / "sure" / name)) for name in ("uncertainty/a/a.nii.gz", "a.nii.gz"))
    assert image.GetPixelID() == sitk.sitkUInt8
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(image, what)(), getattr(original, what)())
    assert any(line.startswith("c: probability a 0.") for line in caplog.messages)


def test_numbers_follow_their_segmentation(model: Path, tmp_path: Path) -> None:
    """A case without numbers is predicted again; numbers of another segmentation do not stay."""
    write_case(tmp_path / "in", "a", (0, 1))
    write_case(tmp_path / "in", "b", (2,))
    how = ("-f", "0", "--disable_tta", "-step_size", "1")
    predict(model, tmp_path, "out", *how)
    first = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
    cases = predict(model, tmp_path, "out", *how, "--uncertainty", "--continue_prediction")
    assert all("uncertainty" in entry for entry in cases.values())
    again = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
    assert again != first
    assert predict(model, tmp_path, "out", *how, "--uncertainty", "--continue_prediction") == cases
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns == again
    (tmp_path / "in" / "b_0002.nii.gz").unlink()
    cases = predict(model, tmp_path, "out", *how)  # a anew, b as it was
    assert "uncertainty" not in cases["a"] and "uncertainty" in cases["b"]
    left = {path.stem.partition(".")[0] for path in (tmp_path / "out" / "uncertainty").rglob("*") if path.is_file()}
    assert left == {"b"}


@pytest.fixture(scope="module")
def planned(session_home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of untrained models of planned networks: early fusion, multi-stream."""
    with environment(session_home, tmp_path_factory.mktemp("planned")):
        dataset = session_home.dataset(3, "regions")
        return {
            trainer.__name__: untrained(session_home.trainer(trainer, dataset), 0)
            for trainer in (nnUNetTrainerModalityDropout, nnUNetTrainerSharedStreams)
        }


@pytest.mark.parametrize("name", ["nnUNetTrainerModalityDropout", "nnUNetTrainerSharedStreams"])
def test_what_is_left_without_a_modality(
    session_home: Home, planned: dict[str, Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is what a prediction with --missing says, whether or not the streams are shared."""
    set_variables(monkeypatch, session_home, tmp_path / "results")
    raw = session_home.raw / session_home.dataset(3, "regions") / "imagesTr"
    (tmp_path / "in").mkdir()
    for channel in range(3):
        shutil.copy(raw / f"case_2_{channel:04d}.nii.gz", tmp_path / "in" / f"a_{channel:04d}.nii.gz")
    how = ("-f", "0", "--disable_tta")
    found = predict(planned[name], tmp_path, "out", *how, "--uncertainty")["a"]["uncertainty"]
    regions = {"whole": (1, 2), "core": (2,)}
    for modality in MODALITIES:
        predict(planned[name], tmp_path, modality, *how, "--missing", modality)
        segmentations = [read(tmp_path / out / "a.nii.gz") for out in ("out", modality)]
        for region, values in regions.items():
            expected = dice(*(np.isin(each, values) for each in segmentations))
            assert found[region]["without"][modality] == pytest.approx(expected, abs=1e-4), (modality, region)
    for numbers in found.values():
        lowest = min(value for value in numbers["without"].values() if value is not None)
        assert numbers["without"][numbers["leans_on"]] == lowest < 1


@pytest.mark.slow
def test_workers_say_the_same(model: Path, tmp_path: Path) -> None:
    write_case(tmp_path / "in", "a")
    write_case(tmp_path / "in", "b", (0, 2))
    how = ("-f", "0", "--disable_tta", "--uncertainty")
    alone = predict(model, tmp_path, "alone", *how)
    assert predict(model, tmp_path, "workers", *how, "-npp", "1", "-nps", "1") == alone
    for file in sorted((tmp_path / "alone" / "uncertainty").rglob("*.*")):
        assert file.read_bytes() == (tmp_path / "workers" / file.relative_to(tmp_path / "alone")).read_bytes()


LABELS = {"background": 0, "a": 1, "b": 2}
OVERLAPPING = {"background": 0, "whole": [1, 2], "core": [2]}


@pytest.mark.parametrize(
    ("content", "heads", "overlapping"),
    [
        ({"labels": LABELS}, {"a": (1,), "b": (2,)}, False),
        ({"labels": {**LABELS, "ignore": 3}}, {"a": (1,), "b": (2,)}, False),
        ({"labels": OVERLAPPING, "regions_class_order": [1, 2]}, {"whole": (0,), "core": (1,)}, True),
        (
            {"labels": {"background": 0, "edema": 1, "necrosis": 2, "enhancing": 3}, "edition": "brats2018"},
            {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)},
            False,
        ),
    ],
    ids=["labels", "ignore", "regions", "edition with labels"],
)
def test_heads_of_regions(
    model: Path, tmp_path: Path, content: dict[str, Any], heads: dict[str, tuple[int, ...]], overlapping: bool
) -> None:
    folder = Path(shutil.copytree(model, tmp_path / model.name))
    known = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**known, **content}))
    regions = regions_of(read_model(str(folder)))
    assert regions.heads == heads and regions.overlapping is overlapping
    logits = torch.randn(1, 1 + max(max(each) for each in heads.values()), 2, 2, 2)
    for index, of in enumerate(heads.values()):
        expected = logits.sigmoid()[:, of[0]] if overlapping else logits.softmax(1)[:, list(of)].sum(1)
        assert torch.allclose(regions.probabilities(logits)[:, index], expected)


def test_a_model_without_probabilities_of_regions(model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / model.name))
    known = json.loads((folder / "dataset.json").read_text())
    labels = {"background": 0, "whole": [1, 2, 3], "other": [2, 3]}
    content = {"labels": labels, "regions_class_order": [1, 2], "edition": "myops2020"}
    (folder / "dataset.json").write_text(json.dumps({**known, **content}))
    with pytest.raises(InputError):
        regions_of(read_model(str(folder)))


def test_of_nothing_nothing_is_said() -> None:
    empty = np.zeros((2, 2), bool)
    assert mean_probability(np.full((2, 2), 0.2), empty) is None and overlap(empty, empty) is None
    assert overlap(empty, ~empty) == 0 and overlap(~empty, ~empty) == 1
    nothing = RegionConfidence(None, {"t1": None})
    assert nothing.leans_on is None and nothing.agreement is None
    assert RegionConfidence(0.51234, {"t1": 0.9, "t2": 0.25, "flair": None}).as_json() == {
        "agreement": 0.575,
        "probability": 0.5123,
        "without": {"t1": 0.9, "t2": 0.25, "flair": None},
        "leans_on": "t2",
    }


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (
            {"WT": RegionConfidence(0.9, {"t1": 0.8, "flair": 0.4}), "ET": RegionConfidence(None, {"t1": 0.0})},
            "x: agreement WT 0.60, ET none found; leans most on flair (WT)",
        ),
        ({"WT": RegionConfidence(0.9), "ET": RegionConfidence(None)}, "x: probability WT 0.90, ET none found"),
        (
            {"WT": RegionConfidence(0.9, {"t1": 0.8, "t2": 0.9}), "TC": RegionConfidence(0.7, {"t1": 0.3, "t2": 0.7})},
            "x: agreement WT 0.85, TC 0.50; leans most on t1 (WT, TC)",
        ),
    ],
)
def test_line_of_a_case(numbers: dict[str, RegionConfidence], expected: str) -> None:
    assert confidence_line("x", {region: each.as_json() for region, each in numbers.items()}) == expected


def test_segmentations_with_names_of_their_own(model: Path, tmp_path: Path) -> None:
    """Two of one name, in two folders."""
    write_case(tmp_path / "in", "a", (0, 1))
    write_case(tmp_path / "in", "b", (2,))
    how = ("-f", "0", "--disable_tta", "-step_size", "1", "--uncertainty", "--output_name", "{case}/seg")
    cases = predict(model, tmp_path, "out", *how)
    for case, entry in cases.items():
        assert entry["uncertainty"]["a"]["map"] == f"{case}/uncertainty/a/seg.nii.gz"
        assert (tmp_path / "out" / entry["uncertainty"]["a"]["map"]).is_file()
    assert cases["a"]["uncertainty"]["a"]["probability"] != cases["b"]["uncertainty"]["a"]["probability"]
    assert predict(model, tmp_path, "out", *how, "--continue_prediction") == cases
