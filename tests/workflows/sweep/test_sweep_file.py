"""The file of a sweep: what it may say, and that the first bad thing is named with file and key."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.paths import trainer_folder
from nnunetv2_mmkd.trainer_catalogue import trainers_of
from nnunetv2_mmkd.workflows.sweep.definition import CompareOptions, EvaluationOptions, Length, Rates, read_sweep
from nnunetv2_mmkd.workflows.sweep.tasks import evaluations_of, models_of, trainings_of

LEAST = "dataset: 7\nconfiguration: 2d\ntrainers: [MetaKD]\n"


def written(folder: Path, text: str) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(text)
    return file


def test_the_least(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, LEAST))
    assert (sweep.dataset, sweep.configuration, sweep.methods) == ("7", "2d", ("MetaKD",))
    assert (sweep.plans, sweep.device, sweep.folds) == ("nnUNetPlans", "cuda", (0, 1, 2, 3, 4))
    assert (sweep.seeds, sweep.missing_rates, sweep.length) == ((), (None,), Length())
    assert sweep.evaluation == EvaluationOptions() and sweep.compare == CompareOptions() and sweep.slurm == {}


def test_everything(tmp_path: Path) -> None:
    text = """
dataset: Dataset501_X
configuration: 3d_fullres
plans: P
device: cpu
trainers: [nnUNetTrainerMetaKD, Mine]
folds: [1, 0]
seeds: [3, 0]
length: {epochs: 2, iterations: 5}
missing_rates: [{tag: mr28, rates: {t1: 0.2, flair: 0.9}, seed: 4}, complete, {tag: there}]
evaluation: {metrics: [dice], subsets: [singles], tolerance: 2, lesions: x, et_threshold: 9, step_size: 1,
             disable_tta: true, test: true, processes: 1, empty: nan}
compare: {pairs: [[nnUNetTrainerMetaKD, Mine]], metrics: [dice], regions: [WT], subsets: [t1], patients: p.csv,
          confidence: 0.9, resamples: 10}
slurm: {partition: gpu, time: 60, additional_parameters: {a: b}}
"""
    sweep = read_sweep(written(tmp_path, text))
    assert sweep.methods == ("MetaKD", "Mine") and sweep.folds == (1, 0) and sweep.seeds == (3, 0)
    assert sweep.length == Length(2, 5)
    assert sweep.missing_rates == (Rates("mr28", {"t1": 0.2, "flair": 0.9}, 4), None, Rates("there"))
    assert sweep.evaluation == EvaluationOptions(("dice",), ("singles",), "nan", 2.0, "x", 9, 1.0, True, True, 1)
    assert sweep.compare.pairs == (("MetaKD", "Mine"),) and sweep.compare.patients == tmp_path / "p.csv"
    assert (sweep.compare.metrics, sweep.compare.regions, sweep.compare.subsets) == (("dice",), ("WT",), ("t1",))
    assert (sweep.compare.confidence, sweep.compare.resamples) == (0.9, 10)
    assert sweep.slurm == {"partition": "gpu", "time": 60, "additional_parameters": {"a": "b"}}


def test_models_and_tasks(tmp_path: Path) -> None:
    text = LEAST.replace("[MetaKD]", "[A, B]") + (
        "folds: [0, 3]\nseeds: [0, 1]\nlength: {epochs: 9}\nmissing_rates: [complete, {tag: mr28}]\n"
    )
    sweep = read_sweep(written(tmp_path, text))
    models = models_of(sweep, tmp_path)
    assert [model.label for model in models[:5]] == ["A_seed0", "B_seed0", "A_seed1", "B_seed1", "A_mr28_seed0"]
    assert models[4].trainer == "nnUNetTrainerA_mr28_9epochs_seed0" and models[4].trained == "A_mr28"
    assert models[4].folder == tmp_path / "nnUNetTrainerA_mr28_9epochs_seed0__nnUNetPlans__2d"
    trainings = trainings_of(sweep, models, tmp_path)
    assert len(trainings) == 16 and len({task.name for task in trainings}) == 16
    assert [task.fold for task in trainings] == [0] * 8 + [3] * 8
    assert trainings[0].arguments() == [
        "train", "7", "2d", "0", "-tr", "nnUNetTrainerA_9epochs_seed0", "-p", "nnUNetPlans", "-device", "cuda",
    ]  # fmt: skip
    assert len(evaluations_of(sweep, models, tmp_path)) == 8


def test_a_length_of_its_own(tmp_path: Path) -> None:
    text = LEAST.replace("[MetaKD]", "[A, A_13epochs, Specialist_t1_t2_9iters]") + (
        "length: {epochs: 9, iterations: 5}\nmissing_rates: [{tag: mr28}]\n"
    )
    models = models_of(read_sweep(written(tmp_path, text)), tmp_path)
    assert [model.trainer.removeprefix("nnUNetTrainer") for model in models] == [
        "A_mr28_9epochs_5iters",
        "A_13epochs_mr28_5iters",
        "Specialist_t1_t2_9iters_mr28_9epochs",
    ]
    assert [model.label for model in models] == ["A_mr28", "A_13epochs_mr28", "Specialist_t1_t2_9iters_mr28"]


def test_what_nnunets_files_say(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, LEAST))
    task = trainings_of(sweep, models_of(sweep, tmp_path), tmp_path)[0]
    fold = task.fold_folder
    (fold / "validation").mkdir(parents=True)
    assert not task.begun() and not task.finished() and "--c" not in task.arguments()
    (fold / "checkpoint_latest.pth").touch()
    assert task.begun() and not task.finished() and task.arguments()[-1] == "--c"
    (fold / "checkpoint_final.pth").touch()
    assert not task.finished() and task.arguments()[-1] == "--val"
    (fold / "validation" / "summary.json").touch()
    assert task.finished()
    (fold / "checkpoint_final.pth").unlink()
    assert not task.finished() and task.arguments()[-1] == "--c"


def test_an_evaluation_is_of_its_checkpoints_and_options(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, LEAST + "folds: [0]\n"))
    models = models_of(sweep, tmp_path / "models")
    task = evaluations_of(sweep, models, tmp_path / "out")[0]
    for folder in (task.folder, task.output, models[0].folder / "fold_0"):
        folder.mkdir(parents=True)
    checkpoint = models[0].folder / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_text("1")
    task.conclude()
    assert not task.finished()
    task.results.touch()
    assert task.finished()
    other = read_sweep(written(tmp_path, LEAST + "folds: [0]\nevaluation: {disable_tta: true}\n"))
    assert not evaluations_of(other, models, tmp_path / "out")[0].finished()
    checkpoint.write_text("22")
    assert not task.finished()


def test_the_example_is_one() -> None:
    example = Path(str(files("nnunetv2_mmkd.results_templates") / "sweep_example.yaml"))
    sweep = read_sweep(example)
    assert sweep.methods == ("ModalityDropout", "MetaKD", "PASSION") and len(sweep.missing_rates) == 2
    assert len(trainings_of(sweep, models_of(sweep, example), example)) == 3 * 5 * 3 * 2


def test_the_trials_of_the_readme_are_one() -> None:
    trials = Path(str(files("nnunetv2_mmkd.results_templates") / "which_trainer.yaml"))
    sweep = read_sweep(trials)
    assert ("SubsetKD", "ModalityDropout") in sweep.compare.pairs
    names = {model.trainer for model in models_of(sweep, trials)}
    assert "nnUNetTrainerSubsetKD_10epochs_150iters_seed1" in names and len(names) == 15
    assert "nnUNetTrainerModalityDropout_13epochs_150iters_seed1" in names


@pytest.mark.parametrize(
    ("name", "trainings"),
    [
        ("hearts_pdt", 5),
        ("hearts_passion", 4 * 5 * 2),
        ("hearts_passion_six", 4 * 5 * 6),
        ("hearts_control", 12 * 5 * 3),
        ("which_trainer_1mm", 6),
        ("equal_time_gliomas", 5 * 2),
        ("equal_time_gliomas_seeds", 2 * 2 * 2),
    ],
)
def test_the_ready_files_are_sweeps(name: str, trainings: int) -> None:
    file = Path(str(files("nnunetv2_mmkd.results_templates") / f"{name}.yaml"))
    sweep = read_sweep(file)
    assert len(trainings_of(sweep, models_of(sweep, file), file)) == trainings
    assert {name for pair in sweep.compare.pairs for name in pair} <= set(sweep.methods)


@pytest.mark.parametrize(("name", "folds"), [("rivals_gliomas", 2), ("rivals_phantom", 1)])
def test_the_rivals_are_all_trainers(name: str, folds: int) -> None:
    """But for MCKD, which is MetaKD, and ModDrop, which is mmFormer on complete cases."""
    file = Path(str(files("nnunetv2_mmkd.results_templates") / f"{name}.yaml"))
    sweep = read_sweep(file)
    methods = {method.removesuffix("_t1_t2_flair") for method in sweep.methods}
    known = {entry.name.removeprefix("nnUNetTrainer") for entry in trainers_of(trainer_folder())}
    assert methods == known - {"MCKD", "ModDrop"}
    assert len(trainings_of(sweep, models_of(sweep, file), file)) == folds * len(methods)
    first, second = zip(*sweep.compare.pairs, strict=True)
    assert set(first) | {"ModalityDropout"} == set(sweep.methods) and set(second) < set(sweep.methods)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LEAST + "seed: [1]\n", "seed is no key of a sweep: .*; did you mean seeds"),
        (LEAST + "evaluation: {metric: [dice]}\n", "evaluation.metric is no key of a sweep: .*; did you mean metrics"),
        (LEAST + "zzzz: 1\n", "zzzz is no key of a sweep: the keys are dataset, configuration"),
        (LEAST + "compare: {pair: []}\n", "compare.pair is no key"),
        (LEAST + "length: {epoch: 3}\n", "length.epoch is no key"),
        (LEAST.replace("dataset: 7\n", ""), "dataset is missing"),
        (LEAST.replace("[MetaKD]", ""), "trainers is missing"),
        (LEAST.replace("[MetaKD]", "[]"), "trainers is empty"),
        (LEAST.replace("[MetaKD]", "MetaKD"), "trainers is 'MetaKD': expected a list"),
        (LEAST.replace("[MetaKD]", "[MetaKD, nnUNetTrainerMetaKD]"), "trainers has MetaKD twice"),
        (LEAST.replace("[MetaKD]", "[3]"), r"trainers\[0\] is 3: expected a word"),
        (LEAST + "folds: [0, all]\n", r"folds\[1\] is 'all': expected a whole number"),
        (LEAST + "folds: [0, 0]\n", "folds has 0 twice"),
        (LEAST + "folds: [-1]\n", r"folds\[0\] is -1: expected at least 0"),
        (LEAST + "seeds: [true]\n", r"seeds\[0\] is True: expected a whole number"),
        (LEAST + "seeds: [1234567890]\n", r"seeds\[0\] is 1234567890: expected 0 to 999999999"),
        (LEAST + "length: {epochs: 0}\n", "length.epochs is 0: expected at least 1"),
        (LEAST + "length: 300\n", "length is no table"),
        (LEAST + "device: gpu\n", "device is 'gpu': choose from cuda, cpu, mps"),
        (LEAST + "missing_rates: [none]\n", r"missing_rates\[0\] is 'none': expected 'complete'"),
        (LEAST + "missing_rates: [complete, complete]\n", "missing_rates has complete twice"),
        (LEAST + "missing_rates: [{tag: a}, {tag: a}]\n", "missing_rates has a twice"),
        (LEAST + "missing_rates: [{tag: A}]\n", r"missing_rates\[0\].tag is 'A'"),
        (LEAST + "missing_rates: [{tag: seed3}]\n", r"missing_rates\[0\].tag is 'seed3'.*asks for a seed"),
        (LEAST + "missing_rates: [{tag: a, rates: {t1: 2}}]\n", r"missing_rates\[0\].rates.t1 is 2"),
        (LEAST + "missing_rates: [{tag: a, rates: [1]}]\n", r"missing_rates\[0\].rates is no table"),
        (
            LEAST + "missing_rates: [{tag: a, rates: {t1: yes}}]\n",
            r"missing_rates\[0\].rates.t1 is True: expected a",
        ),
        (LEAST + "missing_rates: [complete, {tag: a, seed: x}]\n", r"missing_rates\[1\].seed is 'x': expected a whole"),
        (LEAST + "missing_rates: [{rates: {t1: 1}}]\n", r"missing_rates\[0\].tag is missing"),
        (LEAST + "missing_rates: [{tags: a}]\n", r"missing_rates\[0\].tags is no key.* tag\?"),
        (LEAST + "compare: {pairs: [[A]]}\n", r"compare.pairs\[0\] is \['A'\]: expected two methods"),
        (LEAST + "compare: {pairs: [[A, A]]}\n", r"compare.pairs\[0\] has A twice"),
        (LEAST + "compare: {pairs: [[A, B], [A, B]]}\n", r"compare.pairs has \[A, B\] twice"),
        (LEAST + "compare: {confidence: 95}\n", "compare.confidence is 95: expected a level"),
        (LEAST + "compare: {patients: [a]}\n", r"compare.patients is \['a'\]: expected a word"),
        (LEAST + "evaluation: {tolerance: .nan}\n", "evaluation.tolerance is nan: expected at least 0"),
        (LEAST + "evaluation: {metrics: dice}\n", "evaluation.metrics is 'dice': expected a list"),
        (LEAST + "slurm: [gpu]\n", "slurm is no table"),
        (LEAST + "seed:\n", "seed is no key of a sweep: .*; did you mean seeds"),
        (LEAST.replace("7", "2024-01-01"), "dataset is datetime.date.*: expected a word"),
        (LEAST.replace("7", "yes"), "dataset is True: expected a word"),
        (LEAST + "evaluation: {disable_tta: 1}\n", "evaluation.disable_tta is 1: expected true or false"),
        (LEAST + "dataset: 8\n", "line 1: the key 'dataset' is given twice"),
        ("dataset: [\n", "line 2: "),
        ("- 7\n", "the file is no table"),
        ("", "the file is no table"),
        ("[" * 3000, "its lists lie too deep in one another"),
        ("dataset: 2020-13-45", r"none in YAML \(month must be in 1..12\); put it into quotes"),
        ("[a, b]: 1", "none in YAML .*unhashable"),
        ("a: !!timestamp x", "none in YAML"),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_sweep(file)
    assert str(caught.value).startswith(str(file))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        read_sweep(tmp_path / "none.yaml")
