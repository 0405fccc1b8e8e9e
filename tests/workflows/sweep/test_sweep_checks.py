"""A sweep is checked before anything runs; the first bad thing is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_nnunet import Home

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.trainer_lookup import find_trainer
from nnunetv2_mmkd.workflows.sweep.checks import CheckedSweep, check_sweep
from nnunetv2_mmkd.workflows.sweep.run import SweepSettings, _prepare, run_sweep

REST = "trainers: [ModalityDropout, MetaKD]\n"


@pytest.fixture
def data(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a preprocessed data set, with splits; returns its folder."""
    name = home.dataset(3, "regions")
    folder = tmp_path / "preprocessed" / name
    shutil.copytree(home.preprocessed / name, folder)
    (folder / "splits_final.json").unlink(missing_ok=True)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return folder


def write(data: Path, text: str = "", rest: str = REST, configuration: str = "3d_fullres") -> Path:
    file = data.parent.parent / "sweep.yaml"
    number = data.name[7:10]
    file.write_text(f"dataset: {number}\nconfiguration: {configuration}\ndevice: cpu\n{rest}{text}")
    return file


def checked(data: Path, text: str = "", rest: str = REST, configuration: str = "3d_fullres") -> CheckedSweep:
    return check_sweep(write(data, text, rest, configuration))


def test_good(data: Path) -> None:
    found = checked(data, "seeds: [1, 2]\nmissing_rates: [complete, {tag: mr, rates: {T1Gd: 0.5}}]\n")
    assert len(found.models) == 8 and found.data_set.modalities == ("t1", "t1ce", "t2")
    assert [rates.tag for rates in found.unwritten] == ["mr"]
    assert not list(data.glob("mmkd_*")) and not (data / "splits_final.json").exists()


def test_a_method_may_have_a_length_of_its_own(data: Path) -> None:
    found = checked(data, "length: {epochs: 5, iterations: 2}\n", "trainers: [MetaKD, MetaKD_7epochs]\n")
    classes = [find_trainer(model.trainer) for model in found.models]
    assert [(each.suffix_epochs, each.suffix_iterations) for each in classes] == [(5, 2), (7, 2)]


def test_a_method_may_be_an_ablation(data: Path) -> None:
    found = checked(data, "seeds: [1]\n", "trainers: [MetaKD_alpha05_p2, ModalityDropout_passionrecipe]\n")
    ablation, control = (find_trainer(model.trainer) for model in found.models)
    assert (ablation.config.alpha, ablation.config.p, control.recipe.schedule) == (0.5, 2, "poly")


def test_splits_and_tables_are_written_once(data: Path, home: Home) -> None:
    text = "missing_rates: [{tag: mr, rates: {T1Gd: 0.5}, seed: 3}]\n"
    _prepare(checked(data, text))
    table = data / "mmkd_missing_mr.json"
    assert json.loads(table.read_text())["rates"] == {"t1": 0.0, "t1ce": 0.5, "t2": 0.0}
    before = table.stat().st_mtime_ns
    again = checked(data, text)
    assert again.splits.is_file() and again.unwritten == ()
    _prepare(again)
    assert table.stat().st_mtime_ns == before
    assert checked(data, "missing_rates: [{tag: mr}]\n").unwritten == ()
    for other in ("{t1: 0.5}, seed: 3", "{t1ce: 0.5}, seed: 4", "{t1ce: 0.4}, seed: 3"):
        with pytest.raises(InputError, match=r"missing_rates, tag mr: .*mmkd_missing_mr\.json exists already"):
            checked(data, f"missing_rates: [{{tag: mr, rates: {other}}}]\n")
    # the splits are nnU-Net's own
    from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout as control

    ours = json.loads((data / "splits_final.json").read_text())
    (data / "splits_final.json").unlink()
    home.trainer(control, data.name).do_split()
    assert json.loads((data / "splits_final.json").read_text()) == ours


@pytest.mark.parametrize(
    ("text", "rest", "message"),
    [
        ("plans: Other\n", REST, r"Other\.json does not exist; plans in this folder"),
        ("folds: [0, 5]\n", REST, "folds: there is no fold 5"),
        ("", "trainers: [MetaKd]\n", "trainers: there is no trainer 'nnUNetTrainerMetaKd'.*nnUNetTrainerMetaKD"),
        ("", "trainers: [nnUNetTrainer_5epochs]\n", "nnUNetTrainer_5epochs is no trainer of nnunetv2-mmkd"),
        ("length: {epochs: 5}\n", "trainers: [MetaKD_5epochs]\n", "MetaKD_5epochs names length.epochs, 5, once more"),
        ("length: {iterations: 5}\n", "trainers: [MetaKD_5iters]\n", "MetaKD_5iters names length.iterations, 5, once"),
        ("", "trainers: [MetaKD_seed0]\n", "MetaKD_seed0 names 0 itself: leave the ending out and set seeds"),
        ("", "trainers: [MetaKD_mr]\n", "MetaKD_mr names 'mr' itself: leave the ending out and set missing_rates"),
        ("missing_rates: [{tag: a, rates: {adc: 0.1}}]\n", REST, "missing_rates, tag a: unknown modality 'adc'"),
        (
            "missing_rates: [{tag: a, rates: {t1c: 0.1, t1ce: 0.1}}]\n",
            REST,
            "tag a: rates names t1ce twice",
        ),
        (
            "missing_rates: [{tag: a, rates: {t1: 1, t1ce: 1, t2: 1}}]\n",
            REST,
            r"missing_rates\[0\]\.rates\.t1 is 1: expected at least 0 and less than 1",
        ),
        ("missing_rates: [{tag: a}]\n", REST, r"mmkd_missing_a\.json does not exist; give rates"),
        ("evaluation: {metrics: [dise]}\n", REST, "evaluation: unknown metric 'dise'"),
        ("evaluation: {subsets: [t9]}\n", REST, "evaluation: unknown modality 't9'"),
        (
            "evaluation: {template: [metakd_table1]}\n",
            REST,
            "evaluation: template metakd_table1 is a table of",
        ),
        ("evaluation: {empty: zero}\n", REST, "evaluation: .*zero"),
        ("evaluation: {step_size: 2}\n", REST, "evaluation.step_size is 2.0"),
        ("evaluation: {lesions: brats1066}\n", REST, "evaluation: .*brats1066"),
        ("evaluation: {test: true}\n", REST, r"evaluation.test: .*mmkd_test_cases\.json does not exist"),
        (
            "compare: {pairs: [[MetaKD, LCKD]]}\n",
            REST,
            "compare.pairs: 'LCKD' is not among the trainers ModalityDropout, ",
        ),
        ("compare: {regions: [ET]}\n", REST, "compare.regions: 'ET' is not among the regions whole, core"),
        ("compare: {subsets: [t9]}\n", REST, "compare.subsets: unknown modality 't9'"),
        (
            "evaluation: {subsets: [singles]}\ncompare: {subsets: [t1+t2]}\n",
            REST,
            r"compare.subsets: 't1\+t2' is not among the evaluation.subsets t1, t1ce, t2",
        ),
        ("compare: {metrics: [nsd]}\n", REST, "compare.metrics: 'nsd' is not among the evaluation.metrics dice"),
        ("compare: {patients: none.csv}\n", REST, r"none\.csv"),
    ],
)
def test_refused(data: Path, text: str, rest: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        checked(data, text, rest)
    assert "sweep.yaml: " in str(caught.value)
    assert not list(data.glob("mmkd_*"))


def test_what_is_not_there(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="has no configuration '4d'; it has 2d, 3d_fullres"):
        checked(data, configuration="4d")
    file = write(data)
    file.write_text(file.read_text().replace(f"dataset: {data.name[7:10]}", "dataset: 77"))
    with pytest.raises(InputError, match=r"sweep\.yaml: .*77"):
        check_sweep(file)
    shutil.rmtree(data / "nnUNetPlans_2d")
    with pytest.raises(InputError, match=r"nnUNetPlans_2d does not exist: run `nnUNetv2_preprocess"):
        checked(data, configuration="2d")
    (data / "nnUNetPlans_2d").mkdir()
    with pytest.raises(InputError, match="nnUNetPlans_2d holds no cases: run `nnUNetv2_preprocess"):
        checked(data, configuration="2d")
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(InputError, match="nnUNet_results is not set"):
        checked(data)


def test_slurms_parameters(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    for text, message in (
        ("slurm: {partitoin: gpu}\n", "slurm.partitoin is no parameter of submitit"),
        ("slurm: {time: '1-00'}\n", "slurm.time is '1-00': expected minutes"),
    ):
        with pytest.raises(InputError, match=message):
            run_sweep(write(data, text), tmp_path / "out", SweepSettings("submitit"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"sweep\.yaml: there is no Slurm here"):
        run_sweep(write(data), tmp_path / "out", SweepSettings("slurm"))
    assert not (tmp_path / "out").exists()
