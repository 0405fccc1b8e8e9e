"""The table of Audiovision-MNIST from the first training to the pictures, on made-up digits; and on the real ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from spoken_digits import data

from nnunetv2_mmkd.classification.avmnist.pairs import read_data
from nnunetv2_mmkd.classification.avmnist.protocol import (
    DROPOUT,
    LOWER,
    METAKD,
    NO_KD,
    UPPER,
    AudiovisionProtocol,
    TableCell,
    TrainingJob,
)
from nnunetv2_mmkd.classification.avmnist.report import published, read_results, write_accuracy_report
from nnunetv2_mmkd.classification.avmnist.run import run_all, run_job
from nnunetv2_mmkd.classification.training import TrainSettings
from nnunetv2_mmkd.cli import avmnist
from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import Batch, StepResult, TaskLoss
from nnunetv2_mmkd.methods.metakd import MetaKD
from nnunetv2_mmkd.methods.modality_dropout import ModalityDropout
from nnunetv2_mmkd.modalities import ModalityDropoutConfig

QUICK = AudiovisionProtocol(
    rates=(0.2,),
    seeds=2,
    arms=(LOWER, DROPOUT, "LCKD", METAKD, NO_KD, UPPER),
    train=TrainSettings(epochs=1, batch_size=128, modality_dropout=ModalityDropoutConfig("count_uniform")),
)


def test_the_defaults_are_the_papers() -> None:
    protocol = AudiovisionProtocol()
    assert [cell.setting for cell in protocol.cells][::4] == ["(a) audio rate 5%", "(b) visual rate 5%"]
    settings = protocol.train
    assert (settings.epochs, settings.lr, settings.weight_decay) == (60, 1e-3, 1e-2)
    assert (settings.lr_factor, settings.lr_every) == (0.9, 20)
    made = protocol.method(METAKD, 0)
    assert isinstance(made, MetaKD)
    config = made.config
    assert (config.meta_lr, config.meta_weight_decay, config.meta_optimizer) == (1e-2, 1e-2, "adam")
    assert len(protocol.cells) == 8 and protocol.seeds == 10
    args = avmnist.build_parser().parse_args(["--mnist", "m.npz", "--fsdd", "f"])
    assert (tuple(args.rates), args.seeds, args.alpha) == (protocol.rates, protocol.seeds, protocol.alpha)
    assert (args.epochs, args.batch_size) == (60, settings.batch_size)
    assert args.modality_dropout == settings.modality_dropout.name
    assert len(protocol.jobs) == 10 * (8 * 4 + 2 + 1)  # each bound once per seed


def test_the_published_numbers_are_read_by_cell() -> None:
    theirs = published(AudiovisionProtocol().cells)
    assert theirs["MetaKD"].tolist() == [93.56, 94.22, 94.89, 95.11, 84.67, 85.56, 86.89, 88.44]
    assert set(theirs["LowerB"]) == {92.35, 80.44} and set(theirs["UpperB"]) == {98.22}
    assert published([TableCell("audio", 0.3)]).size == 0


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_from_trainings_to_the_table(tmp_path: Path) -> None:
    run_all(data(), QUICK, tmp_path, progress=False)
    stored = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")}
    assert len(stored) == len(QUICK.jobs) == 2 * (2 * 4 + 2 + 1)
    text = write_accuracy_report(QUICK, tmp_path, resamples=100)
    assert "(a) missing audio" in text and "MetaKD [printed]" in text and "2 seeds" in text
    results = pd.read_csv(tmp_path / "results.csv")
    tested = results[results["metric"] == "accuracy"]
    assert len(tested) == 2 * 2 * 6 and tested["value"].between(0, 100).all()
    by = tested.set_index(["method", "region", "case"])["value"]
    assert by["MetaKD, alpha 0"].equals(by["modality dropout"])
    assert {"accuracy.png", "accuracy.csv", "importance.png", "importance.csv"} <= {
        file.name for file in (tmp_path / "figures").iterdir()
    }
    compared = pd.read_csv(tmp_path / "comparisons.csv")
    assert (compared["low"] <= compared["difference"]).all() and (compared["difference"] <= compared["high"]).all()
    run_all(data(), QUICK, tmp_path, progress=False)
    assert all(file.stat().st_mtime_ns == time for file, time in stored.items())
    with pytest.raises(InputError, match="has not been run with these settings"):
        read_results(replace(QUICK, alpha=0.5), tmp_path)


@pytest.mark.usefixtures("one_thread")
def test_only_the_rate_is_missing_in_training_and_nothing_for_the_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[Batch] = []
    step = ModalityDropout.step

    def spy(self: ModalityDropout, network: Any, batch: Batch, task_loss: TaskLoss) -> StepResult:
        batches.append(batch)
        return step(self, network, batch, task_loss)

    monkeypatch.setattr(ModalityDropout, "step", spy)
    split = data().split(0)
    cell = QUICK.cells[0]

    def share_with_both(protocol: AudiovisionProtocol, arm: str) -> float:
        batches.clear()
        run_job(protocol.job(0, arm, cell), split, protocol)
        return float(torch.cat([batch.available for batch in batches]).all(1).double().mean())

    default = replace(QUICK, train=replace(AudiovisionProtocol().train, epochs=1))
    assert QUICK.train.modality_dropout.name == "count_uniform"  # the upper bound does not drop even then
    assert share_with_both(QUICK, UPPER) == share_with_both(default, UPPER) == 1.0
    assert share_with_both(default, DROPOUT) == cell.rate
    assert 0 < share_with_both(QUICK, DROPOUT) < cell.rate


@pytest.mark.usefixtures("one_thread")
def test_test_data_do_not_reach_the_training() -> None:
    """Other test pairs change what is measured, not what is learned."""
    parts = data().split(0)
    job = TrainingJob(0, METAKD, TableCell("image", 0.2))
    first = run_job(job, parts, QUICK)
    spoiled = parts.test.take(range(len(parts.test)))
    spoiled.inputs["audio"][:] = 0
    second = run_job(job, replace(parts, test=spoiled), QUICK)
    assert str(first.curves) == str(second.curves)
    assert np.array_equal(first.validation, second.validation) and not np.array_equal(first.test, second.test)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("ShaSpec", ("alignment", "classification")),
        ("AutoEncoder", ("reconstruction",)),
        ("SMIL", ("task",)),
        ("Flex-MoE", ("balance", "specialisation")),
    ],
)
def test_shaspec_is_an_arm_of_its_own(name: str, terms: tuple[str, ...]) -> None:
    assert name not in AudiovisionProtocol().arms
    protocol = replace(QUICK, arms=(name,))
    curves = run_job(protocol.job(0, name, QUICK.cells[0]), data().split(0), protocol).curves
    assert all(curves[f"loss/{term}"][0] > 0 for term in terms)


def test_bad_settings_are_named() -> None:
    with pytest.raises(InputError, match="unknown method 'GAN'"):
        AudiovisionProtocol(arms=("GAN",))
    with pytest.raises(InputError, match=r"rate 20.0: expected a share"):
        AudiovisionProtocol(rates=(20.0,))
    with pytest.raises(InputError, match="at least one seed"):
        AudiovisionProtocol(seeds=0)


def test_the_command_names_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["avmnist", "--mnist", str(tmp_path / "no.npz"), "--fsdd", str(tmp_path), "-o", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "no.npz: cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    protocol = replace(QUICK, seeds=1, arms=(LOWER, METAKD))
    for processes in (1, 2):
        run_all(data(), protocol, tmp_path / str(processes), processes=processes, progress=False)
    files = sorted(file.relative_to(tmp_path / "1") for file in (tmp_path / "1").rglob("*.json"))
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "1" / file).read_text() == (tmp_path / "2" / file).read_text()


@pytest.mark.slow
@pytest.mark.skipif("MMKD_TEST_DATA" not in os.environ, reason="MMKD_TEST_DATA names no folder of real data")
def test_on_real_digits() -> None:
    pytest.importorskip("librosa")
    folder = Path(os.environ["MMKD_TEST_DATA"]) / "audiovision_mnist"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    real = read_data(folder / "mnist_first10k_by_class.npz", folder / "fsdd")
    protocol = replace(AudiovisionProtocol(), train=replace(AudiovisionProtocol().train, epochs=15))
    result = run_job(TrainingJob(0, UPPER, None), real.split(0), protocol)
    assert result.test.mean() > 0.93
