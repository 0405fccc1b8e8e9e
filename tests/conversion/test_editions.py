"""Every edition: from its archives to nnU-Net and back to its platform, with nothing lost on the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from brats_like import SHAPE
from edition_fixtures import LAYOUTS, truth, write

from nnunetv2_mmkd.dataset_conversion import editions
from nnunetv2_mmkd.dataset_conversion.convert import convert
from nnunetv2_mmkd.dataset_conversion.editions import EDITIONS, get_edition
from nnunetv2_mmkd.dataset_conversion.spec import EditionSpec
from nnunetv2_mmkd.submission.write import write_submission

every_edition = pytest.mark.parametrize("spec", EDITIONS.values(), ids=EDITIONS)


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def verify(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's own check, with threads in place of processes: these would each import torch."""
    from nnunetv2.experiment_planning import verify_dataset_integrity as module

    monkeypatch.setattr(module.multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=ThreadPool))
    module.verify_dataset_integrity(str(target), num_processes=1)


@every_edition
def test_from_the_archives_to_the_platform(
    spec: EditionSpec, tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = LAYOUTS[spec.name]
    write(spec, tmp_path / "src", missing=[spec.channels[1].name])
    write(spec, tmp_path / "src", label=False, missing=[spec.channels[0].name])
    target = convert(spec, [tmp_path / "src"], spec.dataset_id, processes=1, show_progress=False)
    assert target == raw / f"Dataset{spec.dataset_id}_{spec.dataset_name}"
    verify(target, monkeypatch)
    content = json.loads((target / "dataset.json").read_text())
    training, validation = layout.case(True), layout.case(False)
    assert content["missing_modalities"] == {training: [spec.channels[1].name], validation: [spec.channels[0].name]}
    assert (
        content["numTraining"] == 1 and content["edition"] == spec.name and content["licence"] and content["citation"]
    )
    assert sorted(path.name for path in (target / "imagesTs").iterdir()) == [
        f"{validation}_{index:04d}.nii.gz" for index in range(len(spec.channels))
    ]
    # The ground truth, as nnU-Net would write it, is submitted: the platform gets the labels of the source.
    shutil.copytree(target / "labelsTr", tmp_path / "predictions")
    source = tmp_path / "src" / Path(layout.training).parts[0]
    if spec.platform.grid is not None:
        spec = replace(spec, platform=replace(spec.platform, grid=SHAPE))  # real ones take seconds
    archive = write_submission(spec, tmp_path / "predictions", [source], tmp_path / "out", show_progress=False)
    (name,) = zipfile.ZipFile(archive).namelist()
    submitted = voxels(tmp_path / "out" / name)
    expected = truth(spec)
    if spec.submission_labels is not None:
        on_disk = spec.to_edition()
        expected = np.vectorize({on_disk[value]: out for value, out in spec.submission_labels.items()}.get)(expected)
    assert submitted.dtype == np.dtype(spec.submission_dtype) and np.array_equal(submitted, expected)


@every_edition
def test_labels_survive_the_regions_of_nnunet(spec: EditionSpec) -> None:
    import torch
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    declared, order = spec.dataset_labels("regions")
    manager = LabelManager({name: tuple(v) if isinstance(v, list) else v for name, v in declared.items()}, order)
    on_disk = list(spec.allowed_labels)
    values = torch.tensor([spec.label_map[value] for value in on_disk])
    assert list(manager.foreground_regions) == list(spec.regions.values())
    heads = [torch.isin(values, torch.tensor(region)).float() for region in manager.foreground_regions]
    decoded = manager.convert_probabilities_to_segmentation(torch.stack(heads)[:, None, None]).flatten().tolist()
    assert [spec.to_edition()[int(value)] for value in decoded] == on_disk


@every_edition
def test_channels_are_named_as_everywhere(spec: EditionSpec) -> None:
    from nnunetv2_mmkd.modalities import canonical

    assert [canonical(channel.display) for channel in spec.channels] == [channel.name for channel in spec.channels]
    for channel in spec.channels:
        assert {canonical(suffix) for suffix in channel.suffixes} == {channel.name}


def test_names_numbers_and_scripts_are_unique() -> None:
    specs = list(EDITIONS.values())
    assert len({spec.dataset_id for spec in specs}) == len({spec.dataset_name for spec in specs}) == len(specs)
    folder = Path(editions.__file__).parent
    for spec in specs:
        script = (folder / f"Dataset{spec.dataset_id}_{spec.dataset_name}.py").read_text()
        assert f'["convert", "{spec.name}", *sys.argv[1:]]' in script
    assert len(list(folder.glob("Dataset*.py"))) == len(specs)


def test_names_may_be_typed_loosely() -> None:
    assert get_edition("BraTS2023_GLI") is get_edition("brats2023gli") is EDITIONS["brats2023-gli"]


@pytest.mark.parametrize(
    ("edition", "case", "patient"),
    [
        ("brats2018", "Brats18_TCIA08_167_1", "Brats18_TCIA08_167_1"),
        ("brats2021", "BraTS2021_00000", "BraTS2021_00000"),
        ("brats2024-gli", "BraTS-GLI-02062-101", "BraTS-GLI-02062"),
        ("brats2024-met", "BraTS-MET-00001-000", "BraTS-MET-00001"),
        ("brats2024-ped", "BraTS-PED-00001-000", "BraTS-PED-00001"),
        ("brats2024-goat", "BraTS-GoAT-00001", "BraTS-GoAT-00001"),
    ],
)
def test_patients(edition: str, case: str, patient: str) -> None:
    assert EDITIONS[edition].is_case(case) and EDITIONS[edition].patient(case) == patient


def test_a_script(tmp_path: Path, raw: Path) -> None:
    write(EDITIONS["brats2020"], tmp_path / "src")
    script = Path(editions.__file__).with_name("Dataset503_BraTS2020.py")
    command = [sys.executable, str(script), "-i", str(tmp_path / "src"), "-d", "503", "-np", "1"]
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
    assert (raw / "Dataset503_BraTS2020" / "dataset.json").is_file()
