"""Prediction with any subset: masks, equality of absent and excluded, geometry, report, continuing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tiny_model import MODALITIES, TRAINER, image_of, read, write, write_case

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import TEMPORARY_FOLDER
from nnunetv2_mmkd.inference.job import JobRequest
from nnunetv2_mmkd.inference.predictor import MMKDPredictor

Make = Callable[..., MMKDPredictor]


def masks(predictor: MMKDPredictor) -> set[tuple[bool, ...]]:
    return set(predictor.network.seen)


def report(folder: Path) -> dict:
    return json.loads((folder / "mmkd_report.json").read_text())


def test_mask_reaches_the_network(make_predictor: Make, tmp_path: Path) -> None:
    write_case(tmp_path / "in", "a")
    write_case(tmp_path / "in", "b", (0, 2))
    predictor = make_predictor()
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert masks(predictor) == {(True, True, True), (True, False, True)}
    assert predictor.network.seen[0] == (True, True, True)  # case a first
    assert predictor.network.seen[-1] == (True, False, True)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_excluded_equals_absent_equals_zero(make_predictor: Make, tmp_path: Path, channel: int) -> None:
    others = tuple({0, 1, 2} - {channel})
    write_case(tmp_path / "full", "a")
    write_case(tmp_path / "absent", "a", others)
    write_case(tmp_path / "zero", "a", others)
    write(tmp_path / "zero" / f"a_{channel:04d}.nii.gz", np.zeros((14, 20, 22), np.float32))
    write_case(tmp_path / "broken", "a", others)  # not read, so it does not matter
    (tmp_path / "broken" / f"a_{channel:04d}.nii.gz").write_bytes(b"not an image")
    predictor = make_predictor()
    out = {}
    for name in ("full", "absent", "zero", "broken"):
        predictor.select(missing=[MODALITIES[channel]] if name in ("full", "broken") else None)
        target = tmp_path / f"out_{name}"
        predictor.predict_from_files_sequential(str(tmp_path / name), str(target), save_probabilities=True)
        out[name] = np.load(target / "a.npz")["probabilities"]
        assert (read(target / "a.nii.gz") == out[name].argmax(0)).all()
    predictor.select()
    predictor.predict_from_files_sequential(str(tmp_path / "full"), str(tmp_path / "all"), save_probabilities=True)
    everything = np.load(tmp_path / "all" / "a.npz")["probabilities"]
    for name in ("absent", "zero", "broken"):
        assert np.array_equal(out["full"], out[name])
    assert not np.array_equal(out["full"], everything)


@pytest.mark.slow
def test_workers_agree_with_one_process(make_predictor: Make, tmp_path: Path) -> None:
    for case, channels in (("a", (0, 1, 2)), ("b", (1, 2)), ("c", (0,)), ("d", (2,))):
        write_case(tmp_path / "in", case, channels)
    predictor = make_predictor()
    predictor.predict_from_files_sequential(tmp_path / "in", tmp_path / "one")
    seen = list(predictor.network.seen)
    predictor.network.seen.clear()
    predictor.predict_from_files(
        str(tmp_path / "in"), str(tmp_path / "two"), save_probabilities=True,
        num_processes_preprocessing=2, num_processes_segmentation_export=1,
    )  # fmt: skip
    assert predictor.network.seen == seen
    for case in "abcd":
        assert (read(tmp_path / "one" / f"{case}.nii.gz") == read(tmp_path / "two" / f"{case}.nii.gz")).all()
        assert (tmp_path / "two" / f"{case}.npz").is_file() and (tmp_path / "two" / f"{case}.pkl").is_file()
    assert report(tmp_path / "one") == report(tmp_path / "two")
    assert (tmp_path / "two" / "predict_from_raw_data_args.json").is_file()
    assert not list(tmp_path.glob(f"*/{TEMPORARY_FOLDER}*"))


def test_report(make_predictor: Make, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nnunetv2_mmkd")
    write_case(tmp_path / "in", "a")
    write_case(tmp_path / "in", "b", (1, 2))
    write_case(tmp_path / "in", "declared", (0, 1))
    write_case(tmp_path / "in", "zero", (0, 1))
    for case in ("declared", "zero"):
        write(tmp_path / "in" / f"{case}_0002.nii.gz", np.zeros((14, 20, 22), np.float32))
    make_predictor((0, 1), missing=["T1Gd"]).predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    found = report(tmp_path / "out")
    assert found["finished"] is True and found["modalities"] == list(MODALITIES)
    assert found["model"] == {
        "folder": str(model),
        "trainer": TRAINER,
        "configuration": "3d_fullres",
        "folds": [0, 1],
        "checkpoint": "checkpoint_final.pth",
    }
    user = {"t1ce": "excluded by the user"}
    assert {case: (entry["used"], entry["missing"]) for case, entry in found["cases"].items()} == {
        "a": (["t1", "t2"], user),
        "b": (["t2"], {"t1": "no file", **user}),
        "declared": (["t1"], {**user, "t2": "all zero, declared missing in dataset.json"}),
        "zero": (["t1"], {**user, "t2": "all zero"}),
    }
    assert all(entry["done"] for entry in found["cases"].values())
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1 and "zero_0002.nii.gz" in warned[0]
    said = caplog.messages
    assert "b: t2; missing: t1 (no file), t1ce (excluded by the user)" in said
    assert said[-4:-1] == ["1 case without t1ce.", "1 case without t1 and t1ce.", "2 cases without t1ce and t2."]
    assert said[-1].startswith(f"segmentations: {tmp_path / 'out'}; what each was made from: ")


def test_variable_is_the_default_of_missing(
    make_predictor: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(tmp_path / "in", "a")
    monkeypatch.setenv("nnUNet_missing_modalities", "t1ce t2")
    predictor = make_predictor()
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert masks(predictor) == {(True, False, False)}
    assert report(tmp_path / "out")["cases"]["a"]["missing"]["t2"] == "excluded by nnUNet_missing_modalities"
    predictor.select(available=["t1ce"])
    predictor.network.seen.clear()
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert masks(predictor) == {(False, True, False)}


def test_original_geometry(make_predictor: Make, tmp_path: Path) -> None:
    files = write_case(tmp_path / "in", "a", (1, 2))
    make_predictor().predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    result, image = sitk.ReadImage(str(tmp_path / "out" / "a.nii.gz")), sitk.ReadImage(str(files[0]))
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(result, what)(), getattr(image, what)())


def test_folds_are_averaged(make_predictor: Make) -> None:
    data = torch.from_numpy(np.stack([image_of("a", channel) for channel in range(3)]) / 100)
    logits = {}
    for folds in ((0,), (1,), (0, 1)):
        predictor = make_predictor(folds, missing=["t2"])
        logits[folds] = predictor.predict_logits_from_preprocessed_data(data)
        assert masks(predictor) == {(True, True, False)}
    assert torch.equal(logits[0, 1], (logits[0,] + logits[1,]) / 2)
    assert not torch.equal(logits[0,], logits[1,])


def test_continue(make_predictor: Make, tmp_path: Path) -> None:
    write_case(tmp_path / "in", "a")
    predictor, out = make_predictor(), tmp_path / "out"
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(out))
    before = (out / "a.nii.gz").stat().st_mtime_ns
    write_case(tmp_path / "in", "b", (2,))
    predictor.select(missing=["t1"])
    predictor.network.seen.clear()
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(out), overwrite=False)
    assert (out / "a.nii.gz").stat().st_mtime_ns == before
    assert masks(predictor) == {(False, False, True)}
    cases = report(out)["cases"]
    assert cases["a"]["used"] == list(MODALITIES) and cases["b"]["used"] == ["t2"]
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(out), overwrite=False)  # nothing left to do
    assert report(out)["cases"] == cases


def test_interruption_leaves_whole_cases_only(
    make_predictor: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for case in ("a", "b", "c"):
        write_case(tmp_path / "in", case)
    predictor, out = make_predictor(), tmp_path / "out"
    real, calls = predictor.predict_sliding_window_return_logits, []

    def stop_at_second(data: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(data)

    monkeypatch.setattr(predictor, "predict_sliding_window_return_logits", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        predictor.predict_from_files_sequential(str(tmp_path / "in"), str(out))
    assert [file.name for file in sorted(out.glob("*.nii.gz"))] == ["a.nii.gz"]
    assert not [file for file in out.iterdir() if file.name.startswith(".")]
    found = report(out)
    assert found["finished"] is False
    assert [entry["done"] for entry in found["cases"].values()] == [True, False, False]
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(out), overwrite=False)
    assert report(out)["finished"] and all(entry["done"] for entry in report(out)["cases"].values())
    assert len(list(out.glob("*.nii.gz"))) == 3


def test_parts_have_reports_of_their_own(make_predictor: Make, tmp_path: Path) -> None:
    for case in ("a", "b", "c"):
        write_case(tmp_path / "in", case)
    request = JobRequest(str(tmp_path / "in"), str(tmp_path / "out"), part_id=1, num_parts=2)
    job = make_predictor()._prepare(request)
    assert [case.identifier for case in job.cases] == ["b"]
    assert Path(job.report_file or "").name == "mmkd_report_part1of2.json"


def test_lists_of_files(make_predictor: Make, tmp_path: Path) -> None:
    t1, _, t2 = map(str, write_case(tmp_path / "in", "a"))
    predictor = make_predictor()
    for entries in ([t1, None, t2], [t2, t1], [t1, t2]):
        predictor.network.seen.clear()
        (result,) = predictor.predict_from_files_sequential([entries], None) or []
        assert masks(predictor) == {(True, False, True)}
        predictor.predict_from_files_sequential([entries], [str(tmp_path / "here" / "mine")])
        assert (read(tmp_path / "here" / "mine.nii.gz") == result).all()
    assert not [file for file in (tmp_path / "here").iterdir() if file.name.startswith(".")]
    with pytest.raises(InputError, match="are both t1"):
        predictor.predict_from_files_sequential([[t1, t1]], None)


def test_predict_case(make_predictor: Make, tmp_path: Path) -> None:
    t1, _, t2 = write_case(tmp_path / "in", "a")
    (tmp_path / "in" / "a_0001.nii.gz").unlink()
    predictor, target = make_predictor(), tmp_path / "new" / "mine.nii.gz"
    result = predictor.predict_case({"T1n": t1, "t1ce": None, "t2": str(t2)}, target)
    predictor.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "out"))
    assert (result == read(tmp_path / "out" / "a.nii.gz")).all()
    assert (result == read(target)).all()
    assert np.allclose(sitk.ReadImage(str(target)).GetOrigin(), sitk.ReadImage(str(t1)).GetOrigin())
    assert [file.name for file in target.parent.iterdir()] == ["mine.nii.gz"]
    arrays = {"t1": image_of("a", 0), "t2": image_of("a", 2)}
    assert (predictor.predict_case(arrays, properties={"spacing": [1.5, 1.0, 1.0]}) == result).all()
    predictor.select(missing=["t2"])
    predictor.network.seen.clear()
    predictor.predict_case({"t1": t1, "t2": t2})
    assert masks(predictor) == {(True, False, False)}
    with pytest.raises(InputError, match="at least one"):
        predictor.predict_case({"t1": None})
    with pytest.raises(InputError, match="unknown modality 'pd'"):
        predictor.predict_case({"t1": t1, "pd": t2})
    with pytest.raises(InputError, match="must end with"):
        predictor.predict_case({"t1": t1}, tmp_path / "x.png")


def test_arrays_ignore_the_content_of_missing_channels(make_predictor: Make) -> None:
    image = np.stack([image_of("a", channel) for channel in range(3)])
    predictor, spacing = make_predictor(missing=["t1ce"]), {"spacing": [1.0, 1.0, 1.0]}
    expected = predictor.predict_single_npy_array(image, dict(spacing), save_or_return_probabilities=True)[1]
    for value in (0.0, np.nan, np.inf):
        image[1] = value
        result = predictor.predict_single_npy_array(image, dict(spacing), save_or_return_probabilities=True)[1]
        assert np.array_equal(result, expected)
    predictor.select()
    with pytest.raises(InputError, match="image of t1ce has voxels"):
        predictor.predict_single_npy_array(image, dict(spacing))
    with pytest.raises(InputError, match=r"expected \[M, z, y, x\] with M = 3"):
        predictor.predict_single_npy_array(image[:2], dict(spacing))
    given = {**spacing, "mmkd_available": [True, False, True]}
    assert np.array_equal(
        predictor.predict_single_npy_array(image, given, save_or_return_probabilities=True)[1], expected
    )
