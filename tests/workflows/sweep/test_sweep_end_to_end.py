"""Real trainings through ``mmkd sweep``: one fails and goes on, what is finished is left alone, tables at the end."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from nnunetv2.run.run_training import run_training
from tiny_nnunet import Home, differences

from nnunetv2_mmkd.cli.main import main
from nnunetv2_mmkd.workflows.sweep.definition import read_sweep
from nnunetv2_mmkd.workflows.sweep.process import log_of, state_of
from nnunetv2_mmkd.workflows.sweep.tasks import models_of, trainings_of

STOPS = """
import os
import time
from pathlib import Path

import pytest
from tiny_nnunet import inline_pools

from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout
from nnunetv2_mmkd.training.suffixes import suffix_resolver


class nnUNetTrainerGoes(nnUNetTrainerModalityDropout):
    def perform_actual_validation(self, save_probabilities=False):
        with pytest.MonkeyPatch.context() as patch:
            inline_pools(patch)
            super().perform_actual_validation(save_probabilities)


class nnUNetTrainerStops(nnUNetTrainerGoes):
    def on_epoch_start(self):
        super().on_epoch_start()
        if self.current_epoch == 1 and os.environ.get("TEST_FAILS") == type(self).__name__:
            raise RuntimeError("stopped by the test")
        marker = os.environ.get("TEST_WAITS_ONCE")
        if self.current_epoch == 1 and marker and not Path(marker).exists():
            Path(marker).touch()
            time.sleep(3600)


__getattr__ = suffix_resolver(globals())
"""

LENGTH = "_2epochs_1iters"

FILE = """
dataset: {number}
configuration: 3d_fullres
device: cpu
trainers: [Goes, Stops]
folds: [0]
seeds: [0, 1]
length: {{epochs: 2, iterations: 1}}
evaluation: {{metrics: [dice], subsets: [full], disable_tta: true, step_size: 1, processes: 0}}
compare: {{pairs: [[Stops, Goes]], resamples: 50}}
"""


@pytest.fixture
def file(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep's file, and a trainer that can be stopped; both validate in their own process, for speed."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "stops.py").write_text(STOPS)
    monkeypatch.setenv("nnUNet_extTrainer", f"{os.environ['nnUNet_extTrainer']}{os.pathsep}{tmp_path / 'mine'}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    written = tmp_path / "sweep.yaml"
    written.write_text(FILE.format(number=home.dataset(3, "regions")[7:10]))
    return written


def weights(results: Path, trainer: str) -> Any:
    (file,) = results.glob(f"*/nnUNetTrainer{trainer}__*/fold_0/checkpoint_final.pth")
    return torch.load(file, weights_only=False)["network_weights"]


def states(out: Path) -> dict[str, str]:
    return pd.read_csv(out / "tasks.csv").set_index("task")["state"].to_dict()


@pytest.mark.slow
def test_one_fails_and_goes_on(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, results = tmp_path / "out", tmp_path / "results"
    command = ["sweep", str(file), "-o", str(out), "-np", "2", "--disable_progress_bar"]
    assert main([*command, "--dry_run"]) == 0
    assert capsys.readouterr().out.count("| new |") == 8 and not out.exists()

    monkeypatch.setenv("TEST_FAILS", f"nnUNetTrainerStops{LENGTH}_seed1")
    assert main(command) == 1
    log = out / "jobs" / "train_Stops_seed1_fold0" / "log.txt"
    assert f"mmkd sweep: 1 of 8 tasks failed, first train_Stops_seed1_fold0; see {log}" in capsys.readouterr().err
    assert "RuntimeError: stopped by the test" in log.read_text()
    found = states(out)
    assert found.pop("train_Stops_seed1_fold0") == "failed" and found.pop("evaluate_Stops_seed1") == "waiting"
    assert set(found.values()) == {"done"} and len(found) == 6
    counts = pd.read_csv(out / "seeds.csv").groupby("method")["seeds"].first().to_dict()
    assert counts == {"Goes": 2, "Stops": 1}
    assert set(pd.read_csv(out / "compare.csv")["seeds"].astype(str)) == {"0"}
    assert main([*command, "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "| train_Stops_seed1_fold0 | goes on |" in said and said.count("| finished |") == 6

    monkeypatch.delenv("TEST_FAILS")
    kept = [*results.glob("*/*/fold_0/checkpoint_final.pth"), *out.glob("models/*/predictions/*/*/*.nii.gz")]
    stamps = {path: path.stat().st_mtime_ns for path in kept}
    assert len(stamps) == 3 + 3 * 2  # models; models, cases
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == stamps
    assert [line.endswith(" --c") for line in log.read_text().splitlines() if line.startswith("# ")] == [False, True]
    found = states(out)
    again = {found.pop("train_Stops_seed1_fold0"), found.pop("evaluate_Stops_seed1")}
    assert again == {"done"} and set(found.values()) == {"skipped"}

    # the trainers are the same but for the interruption, so the models are the same, seed by seed
    for seed in (0, 1):
        pair = [weights(results, f"{name}{LENGTH}_seed{seed}") for name in ("Goes", "Stops")]
        assert differences(*pair) == []
    assert differences(*(weights(results, f"Stops{LENGTH}_seed{seed}") for seed in (0, 1)))
    compared = pd.read_csv(out / "compare.csv")
    assert set(compared["region"]) == {"whole", "core"} and set(compared["seeds"]) == {"0 1"}
    for column in ("difference", "ci_low", "ci_high", "ci_low_seeds", "ci_high_seeds"):
        assert compared[column].abs().max() == 0
    said = capsys.readouterr().out
    assert "| Stops - Goes | Dice (points) | whole |" in said and "| Stops | Dice (%) | core |" in said
    averaged = pd.read_csv(out / "results.csv")
    by_seed = pd.read_csv(out / "results_by_seed.csv")
    assert len(by_seed) == 2 * len(averaged) and by_seed["value"].mean() == pytest.approx(averaged["value"].mean())
    assert "values averaged over 2 trainings of each method" in (out / "tables" / "dice.md").read_text()
    argv = ["compare", "Stops", "Goes", "-i", str(out / "results.csv"), "--resamples", "50"]
    assert main(argv) == 0


@pytest.mark.slow
def test_a_job_whose_time_is_over_is_asked_for_again(
    home: Home, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal that Slurm sends before its time limit; submitit's local executor asks for the job again."""
    pytest.importorskip("submitit")
    from nnunetv2_mmkd.workflows.sweep.cluster import ClusterEngine

    monkeypatch.setenv("TEST_WAITS_ONCE", str(tmp_path / "marker"))
    dataset = home.dataset(3, "regions")
    sweep = read_sweep(file)
    models = [each for each in models_of(sweep, tmp_path / "results" / dataset) if each.label == "Stops_seed0"]
    (task,) = trainings_of(sweep, models, tmp_path / "out")
    signalled: list[int] = []

    def time_is_over() -> None:
        deadline = time.monotonic() + 600
        while not (tmp_path / "marker").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        signalled.append(int(state_of(task)["runner"]))
        os.kill(signalled[0], signal.SIGUSR2)

    watcher = threading.Thread(target=time_is_over)
    watcher.start()
    told: list[bool] = []
    ClusterEngine(tmp_path / "submitit", {"time": 60}, "local", patience=0.5).run([task], lambda _, ok: told.append(ok))
    watcher.join()
    assert told == [True] and signalled and state_of(task)["runner"] != signalled[0]
    heads = [line for line in log_of(task).read_text().splitlines() if line.startswith("# ")]
    assert [line.endswith(" --c") for line in heads] == [False, True]

    monkeypatch.setenv("nnUNet_results", str(tmp_path / "alone"))
    monkeypatch.delenv("TEST_WAITS_ONCE")
    torch.set_num_threads(os.cpu_count() or 1)  # as nnUNetv2_train does
    run_training(dataset, "3d_fullres", 0, f"nnUNetTrainerStops{LENGTH}_seed0", device=torch.device("cpu"))
    assert differences(*(weights(tmp_path / where, f"Stops{LENGTH}_seed0") for where in ("results", "alone"))) == []
    summary = json.loads((task.fold_folder / "validation" / "summary.json").read_text())
    assert "foreground_mean" in summary
