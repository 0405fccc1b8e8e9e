"""Every edition: from its archives to nnU-Net and back to its platform, with nothing lost on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from edition_fixtures import write

import nnunetv2_mmkd.dataset_conversion as dataset_conversion
from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.catalogue import EDITIONS, get_edition
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.phantom.case import PhantomConfig
from nnunetv2_mmkd.phantom.editions import fitting_config
from nnunetv2_mmkd.phantom.heart_case import HeartConfig
from nnunetv2_mmkd.phantom.writer import write_phantom
from nnunetv2_mmkd.submission.write import write_submission

every_edition = pytest.mark.parametrize("spec", EDITIONS.values(), ids=EDITIONS)
PHANTOMS = {name: spec for name, spec in EDITIONS.items() if spec.archive is not None}
"""The others are tried with files of their layouts, tests/conversion/test_other_layouts.py."""


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def verify(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's own check, with threads in place of processes: these would each import torch."""
    from nnunetv2.experiment_planning import verify_dataset_integrity as module

    monkeypatch.setattr(module.multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=ThreadPool))
    module.verify_dataset_integrity(str(target), num_processes=1)


def plan(dataset_id: int) -> dict[str, Any]:
    """nnU-Net's own fingerprint and plan."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet
    from tiny_nnunet import QuickFingerprint

    nnunet.extract_fingerprint_dataset(dataset_id, QuickFingerprint, num_processes=1, show_progress_bar=False)
    identifier = nnunet.plan_experiments([dataset_id])
    (file,) = Path(os.environ["nnUNet_preprocessed"]).glob(f"Dataset{dataset_id}_*/{identifier}.json")
    return json.loads(file.read_text())


@pytest.mark.parametrize("spec", PHANTOMS.values(), ids=PHANTOMS)
def test_from_the_archives_to_the_platform(
    spec: EditionSpec, tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_nnunet import inline_pools

    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")  # the planner wants a thread
    archive, source, names = spec.archive, tmp_path / "src", [channel.name for channel in spec.channels]
    config = HeartConfig(size=32) if isinstance(fitting_config(spec), HeartConfig) else PhantomConfig(size=16)
    write_phantom(source, 4, config, edition=spec, validation=1, missing={0: [names[1]]})
    validation = archive.case(0, False)
    for path in source.rglob(f"{validation}{archive.endings[0]}.nii*"):
        path.unlink()
    spared = {path: path.read_bytes() for path in source.rglob("*.nii*")}

    target = convert(spec, [source], spec.dataset_id, processes=1, show_progress=False)
    assert target == raw / f"Dataset{spec.dataset_id}_{spec.dataset_name}"
    assert {path: path.read_bytes() for path in source.rglob("*.nii*")} == spared
    verify(target, monkeypatch)
    content = json.loads((target / "dataset.json").read_text())
    assert content["missing_modalities"] == {archive.case(0, True): [names[1]], validation: [names[0]]}
    assert content["numTraining"] == 4 and content["edition"] == spec.name
    assert content["licence"] and content["citation"]
    assert sorted(path.name for path in (target / "imagesTs").iterdir()) == [
        f"{validation}_{index:04d}.nii.gz" for index in range(len(spec.channels))
    ]
    for index in range(4):
        for channel, ending in enumerate(archive.endings[:-1]):
            (before,) = list(source.rglob(f"{archive.case(index, True)}{ending}.nii*")) or [None]
            after = target / "imagesTr" / f"{archive.case(index, True)}_{channel:04d}.nii.gz"
            assert np.array_equal(voxels(after), voxels(before) if before else np.zeros_like(voxels(after)))

    inline_pools(monkeypatch)
    planned = plan(spec.dataset_id)
    assert "2d" in planned["configurations"] and spec.configuration in planned["configurations"]

    # The ground truth, as nnU-Net would write it, is submitted: the platform gets the labels of the source.
    shutil.copytree(target / "labelsTr", tmp_path / "predictions")
    originals = source / Path(archive.path(0, True)).parts[0]
    if spec.platform.grid is not None:
        spec = replace(spec, platform=replace(spec.platform, grid=(16, 16, 16)))  # real ones take seconds
    written = write_submission(spec, tmp_path / "predictions", [originals], tmp_path / "out", show_progress=False)
    assert len(zipfile.ZipFile(written).namelist()) == 4
    on_disk = spec.to_edition()
    expected = np.arange(max(on_disk.values()) + 1)
    if spec.submission_labels is not None:
        for value, out in spec.submission_labels.items():
            expected[on_disk[value]] = out
    seen: set[int] = set()
    for index in range(4):
        case = archive.case(index, True)
        (truth,) = source.rglob(f"{case}{archive.endings[-1]}.nii*")
        submitted = voxels(tmp_path / "out" / f"{case}.nii.gz")
        assert submitted.dtype == np.dtype(spec.submission_dtype)
        assert np.array_equal(submitted, expected[voxels(truth)])
        seen |= set(np.unique(voxels(truth)).tolist())
    assert seen == set(spec.allowed_labels)


@every_edition
def test_labels_survive_the_regions_of_nnunet(spec: EditionSpec) -> None:
    import torch
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    declared, order = spec.dataset_labels(spec.default_labels)
    manager = LabelManager({name: tuple(v) if isinstance(v, list) else v for name, v in declared.items()}, order)
    on_disk = list(spec.allowed_labels)
    values = torch.tensor([spec.label_map[value] for value in on_disk])
    if spec.regions:
        assert list(manager.foreground_regions) == list(spec.regions.values())
        heads = [torch.isin(values, torch.tensor(region)).float() for region in manager.foreground_regions]
    else:
        heads = [(values == label).float() for label in manager.all_labels]
    decoded = manager.convert_probabilities_to_segmentation(torch.stack(heads)[:, None, None]).flatten().tolist()
    assert [int(value) for value in decoded] == values.tolist()


@every_edition
def test_channels_are_named_as_everywhere(spec: EditionSpec) -> None:
    from nnunetv2_mmkd.names import canonical

    assert [canonical(channel.display) for channel in spec.channels] == [channel.name for channel in spec.channels]
    for channel in spec.channels:
        assert {canonical(suffix.split("_N4_")[0]) for suffix in channel.suffixes} == {channel.name}


def test_names_numbers_and_scripts_are_unique() -> None:
    specs = list(EDITIONS.values())
    assert len({spec.dataset_id for spec in specs}) == len({spec.dataset_name for spec in specs}) == len(specs)
    folder = Path(str(dataset_conversion.__file__)).parent
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
        ("brats2025-gli", "BraTS-GLI-02062-101", "BraTS-GLI-02062"),
        ("myops-plus", "Case3001", "Case3001"),
        ("isles2022", "sub-strokecase0001_ses-0001", "sub-strokecase0001"),
        ("picai", "10000_1000000", "10000"),
        ("msd-prostate", "prostate_00", "prostate_00"),
        ("open-ms", "patient01", "patient01"),
    ],
)
def test_patients(edition: str, case: str, patient: str) -> None:
    assert EDITIONS[edition].is_case(case) and EDITIONS[edition].patient(case) == patient


def test_a_script(tmp_path: Path, raw: Path) -> None:
    write(EDITIONS["brats2020"], tmp_path / "src")
    script = Path(str(dataset_conversion.__file__)).with_name("Dataset503_BraTS2020.py")
    command = [sys.executable, str(script), "-i", str(tmp_path / "src"), "-d", "503", "-np", "1"]
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
    assert (raw / "Dataset503_BraTS2020" / "dataset.json").is_file()
