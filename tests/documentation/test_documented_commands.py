"""Every command of README and documentation: taken by its own parser; and those of the main path are run on phantoms.

Run are the pages in :data:`RUN`, on phantoms, with a plan of three small stages. In what is run, trainers are trained
for one epoch of two iterations (``nnUNetTrainerX`` stands for ``nnUNetTrainerX_1epochs_2iters``), on the CPU, without
mirroring and worker processes. :data:`NOT_RUN` says what is only parsed, and why.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from documented import PAGES, ROOT, Block, all_blocks, blocks, parse, run
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from tiny_nnunet import FEATURES, inline_pools, shrink

from nnunetv2_mmkd.cli.main import VERBS
from nnunetv2_mmkd.editions.catalogue import EDITIONS, get_edition
from nnunetv2_mmkd.editions.custom import read_edition
from nnunetv2_mmkd.evaluation.figures import style
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.templates import find_template
from nnunetv2_mmkd.phantom.case import PhantomConfig
from nnunetv2_mmkd.phantom.writer import write_phantom
from nnunetv2_mmkd.trainer_lookup import find_trainer
from nnunetv2_mmkd.training.curve_log import CurveLog
from nnunetv2_mmkd.workflows.sweep.definition import read_sweep

RUN = (
    "README.md",
    "documentation/how-to/predict.md",
    "documentation/how-to/confidence.md",
    "documentation/how-to/compare-methods.md",
    "documentation/how-to/tables-and-figures.md",
    "documentation/how-to/submit.md",
    "documentation/how-to/private-data-set.md",
    "documentation/how-to/cpu-plan.md",
    "documentation/how-to/share-a-model.md",
    "documentation/how-to/add-a-method.md",
    "documentation/how-to/add-an-edition.md",
    "documentation/how-to/sweep.md",
    "documentation/explanation/missing.md",
)
"""Pages whose commands are run, in this order: later ones use what earlier ones made."""

NOT_RUN = {
    r"pip install|pre-commit": "needs a network",
    r"pytest|\.ci/run": "is the test suite",
    r"python -m venv|\. \.venv/bin": "is the environment the tests run in",
    r"tests/same_results": "compares two commits; CONTRIBUTING",
    r"infer\.py|measure_confidence\.py": "take a model of their own; tests/documentation/test_containers.py, minutes",
    r"mmkd demo": "minutes; tests/cli/test_demo_command.py, and the demo's own tests",
    r"--engine slurm": "needs Slurm; tests/workflows/sweep runs its engine",
    r"-num_gpus": "needs several GPUs; tests/training/test_two_ranks.py has two processes",
    r"mmkd sweep (?!.*--dry_run)": "hours; tests/workflows/sweep/test_sweep_end_to_end.py",
    r"mmkd (avmnist|adni)": "needs data; tests/classification runs them on generated data",
    r"mmkd benchmark": "minutes; tests/benchmark",
    r"^nnUNetv2_predict |^nnUNetv2_train ": "the plain commands start workers; tests/training/test_life_by_commands.py",
    r"mmkd train .*nnUNetTrainerMine": "a meta-update of MetaKD takes minutes; the class is looked up below",
    r"mmkd splits .*\.txt": "needs a data set's own lists; tests/protocols/test_splits.py",
    r"mmkd figure": "needs trainings with such curves; tests/cli/test_figure_command.py",
    r"-pretrained_weights": "needs a checkpoint; tests/training/test_refusals.py",
}
"""What is only parsed, and why. All commands of pages that are not in :data:`RUN` are, too: they repeat these."""

OTHER_PROGRAMS = {"pip", "pytest", "python", "pre-commit", "bash", ".", "export", "eval"}
COMMANDS = [(block.page, words) for block in all_blocks("bash") for words in block.commands]
MINE = "nnUNetTrainerMine"
SHORT = "_1epochs_2iters"
SIZE = 24
"""Voxels of a phantom along each axis."""


def reason_not_to_run(words: list[str]) -> str | None:
    text = " ".join(words)
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, text)), None)


# -- parsed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}: {shlex.join(words)}" for page, words in COMMANDS])
def test_the_parser_takes_it(page: str, words: list[str]) -> None:
    if words[0] in OTHER_PROGRAMS:
        return
    assert words[0] == "mmkd" or words[0].startswith("nnUNetv2_"), f"{page}: {words[0]} is no command"
    if words[1:] in (["--version"], ["-h"]):
        return
    parse(words)


def test_every_name_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers, editions and published tables of all commands."""
    monkeypatch.setenv("nnUNet_extTrainer", str(ROOT / "trainer_variants"))
    trainers = {word for _, words in COMMANDS for word in words if re.fullmatch(r"nnUNetTrainer\w+", word)}
    assert len(trainers) > 10
    for name in trainers - {MINE}:
        find_trainer(name)
    for _, words in COMMANDS:
        if words[:2] in (["mmkd", "convert"], ["mmkd", "submit"]):
            own = words[2] in ("auto", "custom") or words[2].endswith(".yaml")
            assert own or get_edition(words[2]) in EDITIONS.values()
        for flag, check in (
            ("--published", load_published),
            ("--template", find_template),
            ("--edition", get_edition),
        ):
            if flag in words:
                for value in words[words.index(flag) + 1 :]:
                    if value.startswith("-") or value.endswith(".yaml"):
                        break
                    check(value)


def test_every_verb_is_documented_with_a_command() -> None:
    used = {words[1] for _, words in COMMANDS if words[0] == "mmkd"}
    used |= {"env"} if any("mmkd env" in " ".join(words) for _, words in COMMANDS) else set()
    assert set(VERBS) <= used


def test_inline_commands_name_verbs() -> None:
    for page in PAGES:
        for verb in re.findall(r"`mmkd ([a-z]\w*)", page.read_text(encoding="utf-8")):
            assert verb in VERBS, f"{page}: mmkd {verb}"


def test_what_is_not_run_is_there() -> None:
    texts = [" ".join(words) for _, words in COMMANDS]
    unused = [pattern for pattern in NOT_RUN if not any(re.search(pattern, text) for text in texts)]
    assert not unused


@pytest.mark.parametrize("block", [*all_blocks("yaml"), *all_blocks("json")], ids=lambda block: block.page)
def test_data_can_be_read(block: Block, tmp_path: Path) -> None:
    if block.language == "json":
        assert json.loads(block.text)
        return
    file = tmp_path / "sweep.yaml"
    file.write_text(block.text)
    if "\nmodalities:" in block.text:
        assert read_edition(file).channels
        return
    read_sweep(file)


# -- run -------------------------------------------------------------------------------------------------------------


class Reader:
    """Somebody who types what a page says, in a folder of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.done: set[str] = set()

    def follow(self, page: str) -> None:
        """Type everything that a page has, in its order; what was typed before is left out."""
        for block in blocks(ROOT / page):
            if block.language == "bash":
                for words in block.commands:
                    self.type(words)
            elif block.file is not None:
                file = self.home / block.file
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text.replace("device: cuda", "device: cpu"))
            elif block.language == "python":
                exec(compile(block.text, page, "exec"), {"__name__": "documented", "model_folder": self.model()})

    def type(self, words: list[str]) -> None:
        text = shlex.join(words)
        if text in self.done or reason_not_to_run(words):
            return
        self.done.add(text)
        if words[0] == "export":
            for setting in words[1:]:
                name, _, value = setting.partition("=")
                if value != "...":
                    os.environ[name] = os.path.expandvars(value)
        elif words[0] == "eval":
            run(["mmkd", "env"])
        elif words[0] == "python":
            exec(compile((self.home / words[1]).read_text(), words[1], "exec"), {"__name__": "__main__"})
        else:
            os.environ["nnUNet_n_proc_DA"] = "0" if words[1] == "train" else "1"  # planning wants a worker
            run(self.shortened([os.path.expandvars(word) for word in words]))
            self.narrow_plans()

    @staticmethod
    def shortened(words: list[str]) -> list[str]:
        """The command as it is run here."""
        words = [re.sub(r"(_10epochs_150iters|_5epochs_20iters)$", "", word) for word in words]
        words = [re.sub(r"^((?:.*/)?nnUNetTrainer\w+?)(?=$|__nnUNet)", rf"\1{SHORT}", word) for word in words]
        if words[1] == "compare":
            words[2:4] = [word + SHORT for word in words[2:4]]
        further = {
            "train": ["-device", "cpu"],
            "predict": ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar"],
            "evaluate": ["-device", "cpu", "-np", "1", "-nps", "0", "--disable_tta", "--disable_progress_bar"],
            "convert": ["-np", "1", "--disable_progress_bar"],
            "nnUNetv2_plan_and_preprocess": ["-np", "1", "-npfp", "1"],
            "nnUNetv2_extract_fingerprint": ["-np", "1"],
            "nnUNetv2_preprocess": ["-np", "1"],
        }
        return words + further.get(words[1] if words[0] == "mmkd" else words[0], [])

    def narrow_plans(self) -> None:
        """Shrink the plans that have just been made."""
        for file in (self.home / "nnUNet_preprocessed").glob("*/nnUNet*Plans*.json"):
            plans = json.loads(file.read_text())
            if plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] != FEATURES:
                small = shrink(plans)
                for configuration in small["configurations"].values():
                    if "patch_size" in configuration:  # a window is a whole phantom
                        configuration["patch_size"] = [SIZE] * len(configuration["patch_size"])
                file.write_text(json.dumps(small))

    def model(self) -> Path:
        return next((self.home / "nnUNet_results").glob("Dataset501_*/nnUNetTrainerModalityDropout_*"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has followed README: phantoms in the place of BraTS 2018."""
    home = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (home / name).mkdir()
            patch.setenv(name, str(home / name))
        patch.setenv("nnUNet_extTrainer", str(ROOT / "trainer_variants"))
        patch.setenv("nnUNet_n_proc_DA", "1")
        patch.setenv("nnUNet_def_n_proc", "1")
        patch.setenv("nnUNet_missing_modalities", "")
        patch.chdir(home)
        patch.setenv("PWD", str(home))
        inline_pools(patch)
        sample_little(patch)
        draw_nothing(patch)
        config = PhantomConfig(size=SIZE, spacing=4.0)
        write_phantom(home / "phantoms", 5, config, validation=1, processes=1, show_progress=False)
        for folder in (home / "phantoms").glob("MICCAI_*"):
            shutil.move(folder, home)
        write_hospital(home)
        reader = Reader(home)
        threads = torch.get_num_threads()
        reader.follow("README.md")
        yield reader
        torch.set_num_threads(threads)


def sample_little(patch: pytest.MonkeyPatch) -> None:
    """Let nnU-Net's fingerprint draw fewer intensities than a hundred million."""
    original = DatasetFingerprintExtractor.__init__

    def initialise(self: DatasetFingerprintExtractor, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.num_foreground_voxels_for_intensitystats = 10_000

    patch.setattr(DatasetFingerprintExtractor, "__init__", initialise)


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Let trainings write an empty progress.png, which takes longer to draw than they to train; coarse figures."""
    patch.setattr(style, "DPI", 60)
    patch.setattr(LocalLogger, "plot_progress_png", lambda _, folder: Path(folder, "progress.png").touch())
    patch.setattr(CurveLog, "draw", lambda _: None)


def write_hospital(home: Path) -> None:
    """The folders of the how-to pages: ``incoming`` with incomplete cases, ``complete_folder``, ``clinic``, ``ward``.

    Also an nnU-Net data set without some images.
    """
    cases = sorted(home.glob("MICCAI_BraTS_2018_Data_Training/*/*"))
    names = ("t1", "t1ce", "t2", "flair")
    for folder, case, channels in (("incoming", "anna", (0, 1, 2, 3)), ("incoming", "bert", (0, 2)),
                                   ("complete_folder", "anna", (0, 1, 2, 3))):  # fmt: skip
        (home / folder).mkdir(exist_ok=True)
        for channel in channels:
            shutil.copy(
                cases[0] / f"{cases[0].name}_{names[channel]}.nii.gz", home / folder / f"{case}_{channel:04d}.nii.gz"
            )
    for number, case in enumerate(cases, start=1):
        patient = home / "clinic" / f"patient_{number:03d}"
        patient.mkdir(parents=True)
        for name in ("t1", "t1ce", "flair"):
            if (number, name) != (2, "t1ce"):
                shutil.copy(case / f"{case.name}_{name}.nii.gz", patient / f"{patient.name}_{name}.nii.gz")
        truth = nib.load(case / f"{case.name}_seg.nii.gz")
        mask = np.minimum(np.asanyarray(truth.dataobj), 2).astype(np.uint8)
        nib.save(nib.Nifti1Image(mask, truth.affine), patient / f"{patient.name}_mask.nii.gz")
    old = home / "nnUNet_raw" / "Dataset603_Old"
    for number, case in enumerate(cases, start=1):
        for channel, name in enumerate(("t1", "flair")):
            if (number, name) != (3, "flair"):
                (old / "imagesTr").mkdir(parents=True, exist_ok=True)
                shutil.copy(case / f"{case.name}_{name}.nii.gz", old / "imagesTr" / f"c{number}_{channel:04d}.nii.gz")
        (old / "labelsTr").mkdir(exist_ok=True)
        shutil.copy(home / "clinic" / f"patient_{number:03d}" / f"patient_{number:03d}_mask.nii.gz",
                    old / "labelsTr" / f"c{number}.nii.gz")  # fmt: skip
    labels = {"background": 0, "edema": 1, "core": 2}
    content = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": labels, "numTraining": 5, "file_ending": ".nii.gz"}
    (old / "dataset.json").write_text(json.dumps(content))
    for name, source in (("patient7/patient7_T1_pre", "t1"), ("patient7/patient7_T1_post", "t1ce"),
                         ("patient7/patient7_T2_FLAIR", "flair"), ("patient8/T1", "t1"),
                         ("patient8/T2", "t2")):  # fmt: skip
        file = home / "ward" / f"{name}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cases[0] / f"{cases[0].name}_{source}.nii.gz", file)
    (home / "ward" / "cases.csv").write_text(
        "case,T1,T1ce,T2,FLAIR\nanna,patient7/patient7_T1_pre.nii.gz,,,patient7/patient7_T2_FLAIR.nii.gz\n"
    )


def write_other_software(home: Path) -> None:
    """Segmentations by subset, and the truth of their cases."""
    shutil.copytree(home / "results" / "predictions" / f"ModalityDropout{SHORT}", home / "other_software")
    (home / "other_truth").mkdir()
    for file in (home / "other_software" / "t1").glob("*.nii.gz"):
        shutil.copy(home / "nnUNet_raw" / "Dataset501_BraTS2018" / "labelsTr" / file.name, home / "other_truth")


def test_readme_leads_to_what_it_promises(reader: Reader) -> None:
    assert list((reader.home / "predictions").glob("*.nii.gz"))
    assert "FLAIR" in (reader.home / "results" / "tables" / "dice.md").read_text()
    assert len(list((reader.home / "results" / "predictions" / "ModalityDropout_1epochs_2iters").iterdir())) >= 15


@pytest.mark.slow
def test_the_how_to_pages_work_after_it(reader: Reader) -> None:
    write_other_software(reader.home)
    for page in RUN[1:]:
        reader.follow(page)
    home = reader.home
    assert find_trainer(f"{MINE}{SHORT}").__mro__[1].__name__ == MINE
    report = json.loads((home / "segmentations" / "mmkd_report.json").read_text())
    assert report["cases"]["bert"]["used"] == ["t1", "t2"]
    assert "case-1" in (home / "with_report" / "report.html").read_text()
    assert json.loads((home / "without_t1ce" / "mmkd_report.json").read_text())["cases"]["anna"]["missing"]
    assert json.loads((home / "nnUNet_raw" / "Dataset601_Clinic" / "dataset.json").read_text())[
        "missing_modalities"
    ] == {"patient_002": ["t1ce"]}
    assert json.loads((home / "nnUNet_raw" / "Dataset603_Old" / "dataset.json").read_text())["missing_modalities"] == {
        "c3": ["flair"]
    }
    ward = json.loads((home / "ward_segmentations" / "mmkd_report.json").read_text())["cases"]
    assert {case: entry["used"] for case, entry in ward.items()} == {
        "patient7": ["t1", "t1ce", "flair"],
        "patient8": ["t1", "t2"],
    }
    assert (home / "ward_segmentations" / "patient7" / "patient7_seg.nii.gz").is_file()
    assert json.loads((home / "from_table" / "mmkd_report.json").read_text())["cases"]["anna"]["used"] == [
        "t1",
        "flair",
    ]
    assert (home / "model.zip").is_file() and (home / "submission").is_dir()
