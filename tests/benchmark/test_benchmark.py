"""The benchmark end to end on a tiny plan, its bound, and bad input."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
import torch
from refusals import refusal

from nnunetv2_mmkd.benchmark.all_methods import (
    PRINTED,
    _about,
    _measured,
    _ours,
    _printed,
    all_methods_page,
    all_trainers,
)
from nnunetv2_mmkd.benchmark.count import _fake, count_stock, default_recomputed, set_recomputed
from nnunetv2_mmkd.benchmark.counters import LiveBytes
from nnunetv2_mmkd.benchmark.dropout_expectation import arithmetic_bound, expectation, size_probabilities
from nnunetv2_mmkd.benchmark.environment import (
    EXT_TRAINER,
    feed,
    kept,
    make_batch,
    make_trainer,
    temporary_environment,
)
from nnunetv2_mmkd.benchmark.plan import Plan, dataset_plan, synthetic_plan
from nnunetv2_mmkd.benchmark.run import BenchmarkSettings, run_benchmark
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.modalities import ModalityDropoutConfig, all_subsets
from nnunetv2_mmkd.trainer_catalogue import trainers_of
from nnunetv2_mmkd.training.preflight import find_own_trainer

ROOT = Path(__file__).parents[2]
FOUR = ("t1", "t1ce", "t2", "flair")


def tiny_plan(topology: str = "plain", modalities: int = 4) -> Plan:
    """Three stages of 4, 8 and 16 features, patch 8^3, batch of one."""
    plan = synthetic_plan(topology, 1 / 8, batch_size=1).resized((8, 8, 8))
    plans = deepcopy(plan.plans)
    architecture = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    architecture["n_stages"] = 3
    if topology == "resenc":
        architecture["n_blocks_per_stage"] = [1, 1, 1]
    for key, value in architecture.items():
        if isinstance(value, list):
            architecture[key] = value[:2] if key == "n_conv_per_stage_decoder" else value[:3]
    channels = dict(list(plan.dataset_json["channel_names"].items())[:modalities])
    return Plan(plans, {**plan.dataset_json, "channel_names": channels}, plan.configuration, plan.description)


def rows_of(page: str) -> dict[str, dict[str, str]]:
    """Trainer -> title of a column -> cell, of a page of all methods."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    titles = [title.partition(" (")[0] for title in lines[0]]
    return {line[0].strip("`"): dict(zip(titles, line, strict=True)) for line in lines[2:]}


def test_probabilities_of_sizes() -> None:
    subsets = all_subsets(4).sum(1).tolist()
    uniform = size_probabilities(ModalityDropoutConfig("uniform"), FOUR)
    assert uniform == pytest.approx([subsets.count(size) / 15 for size in range(1, 5)])
    assert size_probabilities(ModalityDropoutConfig("bernoulli", p=0.5), FOUR) == pytest.approx(uniform)
    assert size_probabilities(ModalityDropoutConfig("bernoulli", p=0.0), FOUR[:3]) == pytest.approx((0, 0, 1))
    assert size_probabilities(ModalityDropoutConfig("full"), FOUR[:3]) == pytest.approx((0, 0, 1))
    assert size_probabilities(ModalityDropoutConfig("count_uniform"), FOUR) == pytest.approx((0.25,) * 4)
    assert size_probabilities(ModalityDropoutConfig("count_uniform_incomplete"), FOUR[:3]) == pytest.approx(
        (0.5, 0.5, 0)
    )
    deployment = ModalityDropoutConfig("deployment", missing={"t1ce": 0.3, "flair": 0.5})
    assert size_probabilities(deployment, FOUR) == pytest.approx((0, 0.15, 0.5, 0.35))
    assert expectation((1, 2, 3, 4), uniform) == pytest.approx(32 / 15)


def test_bound() -> None:
    bound = arithmetic_bound(encoder_flops=30, total_flops=100, streams=2)
    assert bound.encoder_share == pytest.approx(0.3)
    assert bound.ratio == pytest.approx(1.3)
    assert arithmetic_bound(30, 100, 1).ratio == pytest.approx(1)


def test_a_trainer_of_one_subset_is_measured_at_its_own() -> None:
    names = ("nnUNetTrainerSpecialist_t1_t2", "nnUNetTrainerSpecialist_t1", "nnUNetTrainerACN_t1_t2")
    report = run_benchmark(tiny_plan(modalities=3), BenchmarkSettings(names, steps=1))
    two, one, dedicated = report.rows
    assert one.flops_ratio < two.flops_ratio < 1 < dedicated.flops_ratio
    assert len(set(two.flops_ratio_by_size)) == len(set(two.forward_flops_ratio)) == 1
    assert two.parameters_ratio < 1 and two.besides_ratio == 0 and dedicated.besides_ratio > 1  # the teacher
    for row in report.rows:
        assert (row.distribution, row.subsets_flops_ratio, row.subsets_time_ratio) == ("full", None, None)
    assert "predicting FLOPs, all 7 subsets" in report.table()


def test_the_page_of_all_methods_has_every_trainer_and_what_was_printed() -> None:
    names = ("nnUNetTrainerLCKD", "nnUNetTrainerSpecialist_t1_t2")
    report = run_benchmark(tiny_plan(), BenchmarkSettings(names, steps=0))
    page = all_methods_page(report)
    rows = rows_of(page)
    assert list(rows) == ["LCKD", "Specialist"]
    assert rows["LCKD"]["FLOPs"] == f"{report.rows[0].flops_ratio:.2f} + {report.rows[0].event.amortised_flops:.2f}"  # type: ignore[union-attr]
    assert rows["LCKD"]["printed"] == "86.7 / 79.0 / 63.5 (BraTS2018, 66 online cases, `lckd_table2`)"
    assert rows["LCKD"]["ours"] == "56.0 / 46.8 / 28.5, +3.8 / -3.6 / +2.6 (2 mm)"
    assert rows["Specialist"]["all subsets"] == rows["Specialist"]["printed"] == "–"
    names = [entry.name.removeprefix("nnUNetTrainer") for entry in trainers_of(ROOT / "trainer_variants")]
    with temporary_environment():
        assert [name.removeprefix("nnUNetTrainer").removesuffix("_t1_t2") for name in all_trainers()] == names
    assert set(PRINTED) <= set(names)


def test_the_committed_page_of_all_methods_says_what_the_code_says() -> None:
    """Trainers, ideas, papers and printed values; costs take minutes to count."""
    committed = rows_of((ROOT / "documentation" / "explanation" / "all-methods.md").read_text(encoding="utf-8"))
    entries = trainers_of(ROOT / "trainer_variants")
    assert list(committed) == [entry.name.removeprefix("nnUNetTrainer") for entry in entries]
    for entry, cells in zip(entries, committed.values(), strict=True):
        known = [cells[column] for column in ("trainer", "idea", "paper", "CPU time", "ours", "printed")]
        own = _ours(_measured(), entry.name.removeprefix("nnUNetTrainer"))
        assert known == [*_about(entry), *own, _printed(entry.name)], entry.name
    assert committed["MetaKD"]["printed"] == "86.9 / 79.2 / 63.7 (BraTS2018, 66 online cases, `metakd_table1`)"


def test_what_we_measured_is_that_of_the_committed_scores() -> None:
    scores = pd.read_csv(ROOT / "documentation" / "explanation" / "rivals_gliomas.csv")
    scores["method"] = scores["method"].str.removesuffix("_t1_t2_flair")
    measured = _measured()
    rows = measured[measured["protocol"] == "3 mm, 1 seed"]
    assert len(rows) == 11
    for name, row in rows.iterrows():
        for method, prefix in ((name, ""), ("ModalityDropout", "control_")):
            own = scores[scores["method"] == method]
            if not pd.isna(row["subset"]):
                own = own[own["subset"] == row["subset"]]
            means = 100 * own.groupby("region")["value"].mean()
            for region in ("WT", "TC", "ET"):
                assert row[f"{prefix}{region}"] == pytest.approx(means[region], abs=0.006), (name, method, region)


@pytest.mark.slow
def test_the_committed_costs_are_counted_again() -> None:
    """Of two trainers: all of them take half an hour."""
    committed = rows_of((ROOT / "documentation" / "explanation" / "all-methods.md").read_text(encoding="utf-8"))
    settings = BenchmarkSettings(("nnUNetTrainerUHeMIS", "nnUNetTrainerDeMoSeg"), steps=0)
    counted = rows_of(all_methods_page(run_benchmark(synthetic_plan(), settings)))
    assert set(counted) == {"UHeMIS", "DeMoSeg"}
    for name, cells in counted.items():
        for column in ("FLOPs", "saved", "all subsets", "weights"):
            assert cells[column] == committed[name][column], (name, column)


@pytest.mark.slow
def test_passion_stays_near_the_stock_peak() -> None:
    """With what it recomputes on a GPU, all four modalities there, although it decodes five times."""
    plan = synthetic_plan()
    with temporary_environment():
        trainer, batch = _fake(find_own_trainer("nnUNetTrainerPASSION"), plan)
        feed(trainer, batch)
        set_recomputed(trainer, default_recomputed(trainer))
        prepared = trainer.prepare(batch, trainer.cases.training_present, kept(trainer, 4))
        with LiveBytes([*trainer.network.parameters(), batch["data"], *batch["target"]]) as live:
            trainer.method.step(trainer.bare_network, prepared, trainer.loss)["loss"].backward()
        stock = count_stock(plan).step
    assert 1 < live.peak / stock.peak_bytes <= 1.25


@pytest.mark.slow
def test_end_to_end(tmp_path: Path) -> None:
    before = dict(os.environ)
    settings = BenchmarkSettings(("nnUNetTrainerMetaKD", "nnUNetTrainerModalityDropout"), steps=1)
    report = run_benchmark(tiny_plan(modalities=3), settings)
    assert dict(os.environ) == before
    metakd, control = report.rows
    assert control.flops_ratio == pytest.approx(1) and control.saved_ratio[0] == pytest.approx(
        1, abs=0.07
    )  # a masked copy of the images
    assert control.event is None and control.bound == pytest.approx(1)
    assert metakd.streams == pytest.approx(12 / 7)
    assert list(metakd.flops_ratio_by_size) == sorted(metakd.flops_ratio_by_size)
    assert metakd.forward_flops_ratio[1] < metakd.forward_flops_ratio[2]
    assert control.subsets_bound == 7 and control.subsets_flops_ratio == pytest.approx(7)
    scratch = sum(ratio * count for ratio, count in zip(metakd.forward_flops_ratio, (3, 3, 1), strict=True))
    assert 0.9 * metakd.subsets_bound < metakd.subsets_flops_ratio < min(scratch, 1.2 * metakd.subsets_bound)
    assert metakd.subsets_time_ratio is not None and metakd.subsets_time_ratio > 1
    assert metakd.saved_ratio[3] < metakd.saved_ratio[0]
    assert metakd.recomputed_flops_ratio[3] > metakd.recomputed_flops_ratio[0]
    assert metakd.event is not None and (metakd.event.interval, metakd.event.steps) == (100, 20)
    assert metakd.event.amortised_flops == pytest.approx(metakd.event.flops_ratio / 100)
    assert metakd.time_ratio is not None and metakd.time_ratio > 0
    report.write(tmp_path / "b.json")
    content = json.loads((tmp_path / "b.json").read_text())
    assert content["rows"][0]["event"]["amortised_time"] > 0
    assert [row["trainer"] for row in content["rows"]] == list(settings.trainers)
    assert {row["law"] for row in content["rows"]} == {"uniform"}
    assert metakd.iteration_flops_ratio == metakd.flops_ratio + metakd.event.amortised_flops
    assert control.iteration_time_ratio == control.time_ratio
    lines = report.table().splitlines()
    _, update, together = next(lines[i : i + 3] for i, line in enumerate(lines) if line.startswith("step FLOPs"))
    assert update.startswith("+ meta-updates") and "20 steps / 100" in update
    assert together.startswith("= FLOPs per iteration") and f"{metakd.iteration_flops_ratio:.3f}" in together
    assert "nnUNetTrainerMetaKD" in report.table() and "x bound" in report.table()


@pytest.mark.parametrize("topology", ["plain", "resenc"])
def test_counts_only(topology: str) -> None:
    """Shared streams, and SubsetKD's teacher: a forward pass more in a step, nothing more in prediction."""
    trainers = ("nnUNetTrainerSharedStreams", "nnUNetTrainerSubsetKD")
    streams, teacher = run_benchmark(
        tiny_plan(topology, modalities=3), BenchmarkSettings(trainers, distribution="own", steps=0)
    ).rows
    assert streams.distribution == "count_uniform" and streams.streams == pytest.approx(2)
    assert streams.event is None and streams.time_ratio is None
    assert streams.flops_ratio > 1
    assert teacher.flops_ratio == pytest.approx(4 / 3, abs=0.04)  # the first convolution's input has no gradient
    assert teacher.forward_flops_ratio == pytest.approx([1, 1, 1])


def test_elections() -> None:
    settings = BenchmarkSettings(("nnUNetTrainerLCKD",), steps=1)
    (lckd,) = run_benchmark(tiny_plan(modalities=2), settings).rows
    assert lckd.event is not None and lckd.event.interval == 5000
    assert lckd.event.steps % 50 == 0 and lckd.event.amortised_flops > 0
    assert lckd.event.amortised_time is not None and lckd.event.amortised_time > 0


@pytest.mark.slow
def test_a_teacher_of_its_own() -> None:
    (mst,) = run_benchmark(tiny_plan(modalities=2), BenchmarkSettings(("nnUNetTrainerMSTKDNet",), steps=1)).rows
    assert mst.flops_ratio > 1.9 and mst.event is None and mst.bound == 1
    assert mst.default_recomputed == 3 and mst.saved_ratio[3] < 0.7 * mst.saved_ratio[0]
    assert mst.recomputed_flops_ratio[3] > mst.recomputed_flops_ratio[0]
    assert mst.forward_flops_ratio[0] == mst.forward_flops_ratio[1] < 1.5  # the teacher is not deployed


def test_dataset_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_plan()
    folder = tmp_path / plan.plans["dataset_name"]
    folder.mkdir()
    (folder / "nnUNetPlans.json").write_text(json.dumps(plan.plans))
    labels = {**plan.dataset_json["labels"], "ignore": 4}
    (folder / "dataset.json").write_text(json.dumps({**plan.dataset_json, "labels": labels}))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    read = dataset_plan("501", "3d_fullres")
    assert read.patch == (8, 8, 8) and "ignore" not in read.dataset_json["labels"]
    with pytest.raises(InputError, match="no configuration '2d'"):
        dataset_plan("501", "2d")
    with pytest.raises(InputError, match="nnUNetPlansX"):
        dataset_plan("501", "3d_fullres", "nnUNetPlansX")
    with pytest.raises(InputError, match="502"):
        dataset_plan("502", "3d_fullres")
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(InputError, match="nnUNet_preprocessed"):
        dataset_plan("501", "3d_fullres")


@pytest.mark.parametrize("name", ["nnUNetTrainerNoSuchThing", "nnUNetTrainer"])
def test_bad_trainer(name: str) -> None:
    with temporary_environment(), pytest.raises(InputError, match=name):
        find_own_trainer(name)


def test_bad_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EXT_TRAINER, raising=False)
    plan = tiny_plan()
    with pytest.raises(InputError, match="multiple"):
        run_benchmark(plan.resized((9, 8, 8)), BenchmarkSettings(("nnUNetTrainerMetaKD",)))
    with pytest.raises(InputError, match="3 sizes"):
        plan.resized((8, 8))
    with pytest.raises(InputError, match="batch size"):
        plan.resized(batch_size=0)
    with pytest.raises(InputError, match=r"unknown .*'nonsense'"):
        run_benchmark(plan, BenchmarkSettings(("nnUNetTrainerMetaKD",), distribution="nonsense"))
    with pytest.raises(InputError, match="topology"):
        synthetic_plan("round")
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="scale of the features"):
            synthetic_plan(features_scale=scale)
    for settings, message in (
        (BenchmarkSettings(("nnUNetTrainerMetaKD",), steps=-1), "--steps -1: expected 0 or more"),
        (BenchmarkSettings(("nnUNetTrainerMetaKD",), recomputed_stages=-2), "--recomputed_stages -2: expected 0"),
        (BenchmarkSettings(("nnUNetTrainerMetaKD",), timed_patch=(8, 8, 9)), "--timed_patch: .*multiple"),
    ):
        with pytest.raises(InputError, match=message):
            run_benchmark(plan, settings)
    assert EXT_TRAINER not in os.environ


@pytest.mark.slow
def test_a_fusion_of_all_scales_is_counted() -> None:
    """Fake tensors go through tokens and attention; the auxiliary decodes can be recomputed."""
    settings = BenchmarkSettings(("nnUNetTrainerM2FTrans",), steps=0)
    (row,) = run_benchmark(tiny_plan(modalities=2), settings).rows
    assert row.streams == pytest.approx(4 / 3)
    assert row.saved_ratio[2] < row.saved_ratio[0]
    assert row.recomputed_flops_ratio[2] > row.recomputed_flops_ratio[0]
    assert list(row.flops_ratio_by_size) == sorted(row.flops_ratio_by_size)


def test_a_methods_own_warm_up_is_over() -> None:
    """RFNet trains without the fused task loss at first; that would be too cheap a step."""
    with temporary_environment():
        trainer = make_trainer(find_own_trainer("nnUNetTrainerRFNet"), tiny_plan(), torch.device("cpu"))
        feed(trainer, make_batch(trainer, tiny_plan()))
        assert trainer.run.iteration >= trainer.method.warmup_until > 0
        prepared = trainer.prepare(make_batch(trainer, tiny_plan()), trainer.cases.training_present)
        parts = trainer.method.step(trainer.bare_network, prepared, trainer.loss)["parts"]
    assert parts.keys() == {"task", "region maps", "uni-modal"}


def test_an_output_that_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    for output, said in ((tmp_path, "expected a file, and this is a folder"), (file / "b.json", "is not a folder")):
        assert said in refusal(["benchmark", "-o", str(output)], capsys)
