"""Write the pages of the reference that follow from the code: commands, trainers, editions.

``python documentation/generate_reference.py`` writes them; ``tests/documentation`` fails if they are out of date.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunetv2_mmkd.cli.main import VERBS
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import LESION_TASKS
from nnunetv2_mmkd.paths import trainer_folder
from nnunetv2_mmkd.trainer_catalogue import STATUSES, TrainerEntry, endings_with_owners, owners_text, trainers_of
from nnunetv2_mmkd.training.suffixes import SUFFIXES

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by documentation/generate_reference.py. Do not edit. -->\n"

TRAIN = """\
All arguments of `nnUNetv2_train`, which has the last word on them; `mmkd train -h` prints them. Often used: `-tr`,
`-p`, `--c` (go on), `--val` (validation only), `-num_gpus`, `-pretrained_weights`, `-device`. Trainers of this package
are found without any variable. Arguments, data set, plans and splits are checked before anything is written.
"""


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """File name -> text."""
    return {"commands.md": commands(), "trainers.md": trainers(), "editions.md": editions()}


def commands() -> str:
    """Every verb's arguments, from its parser."""
    parts = [
        NOTE,
        "# Commands\n",
        "`mmkd VERB -h` prints the same, `mmkd --version` the version. Exit codes: 0 done, 1 bad input, 2 wrong\n"
        "usage, 130 interrupted. `nnUNetv2_train_mmkd` and `nnUNetv2_predict_mmkd` are other names of `mmkd train`\n"
        "and `mmkd predict`.\n",
        table(["verb", ""], [(f"[`{verb}`](#mmkd-{verb})", text) for verb, text in VERBS.items()]),
    ]
    for verb, text in VERBS.items():
        parser = importlib.import_module(f"nnunetv2_mmkd.cli.{verb}").build_parser()
        parts.append(f"## mmkd {verb}\n")
        if verb == "train":
            parts.append(TRAIN)
            parser.description = None
        parts.append(f"{(parser.description or text).strip()}\n")
        for group in parser._action_groups:
            rows = [row for action in group._group_actions if (row := argument(action, parser)) is not None]
            if rows:
                usual = group.title in ("positional arguments", "options", None)
                parts.append(table(["argument" if usual else group.title, group.description or ""], rows))
    return "\n".join(parts)


def argument(action: argparse.Action, parser: argparse.ArgumentParser) -> tuple[str, str] | None:
    """A row of an argument, or None for ``-h``."""
    if isinstance(action, argparse._HelpAction) or action.help is argparse.SUPPRESS:
        return None
    value = ""
    if action.nargs != 0:
        name = (
            action.metavar or (action.choices and "{" + ",".join(map(str, action.choices)) + "}") or action.dest.upper()
        )
        value = {"+": f"{name} ...", "*": f"[{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), str(name))
    flags = ", ".join(action.option_strings)
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return f"`{f'{flags} {value}'.strip()}`", text


def trainers() -> str:
    """Every trainer with paper and status, and the endings of names."""
    entries = trainers_of(trainer_folder())
    rows = [(f"`{entry.name}`", entry.summary, paper(entry), entry.status) for entry in entries]
    return "\n".join(
        [
            NOTE,
            "# Trainers\n",
            "`mmkd info` prints the same, and the trainers of your own folders in `nnUNet_extTrainer`.\n"
            "[Which one](../explanation/which-trainer.md), [what each costs](../explanation/cost.md).\n",
            table(["trainer", "what it is", "paper", "status"], rows),
            "What a status means; none was trained at nnU-Net's full length:\n",
            table(["status", ""], list(STATUSES.items())),
            "## Endings of names\n",
            "They hold in training, prediction and evaluation alike, and combine in any order:\n"
            "`nnUNetTrainerMetaKD_mr2468_300epochs_50iters_seed3`.\n",
            table(["ending", ""], [(f"`{ending}`", text) for ending, text in SUFFIXES.items()]),
            "## Endings of single trainers\n",
            "Ablations, presets and recipes. They combine with those above and with each other, where no two set the\n"
            "same: `nnUNetTrainerMetaKD_alpha05_p2_300epochs`. Your own: [add a method](../how-to/add-a-method.md).\n",
            table(["ending", "", "trainers"], own_endings(entries)),
            "`nnUNetTrainerSpecialist`, `nnUNetTrainerACN` and `nnUNetTrainerSMUNet` need the names of modalities: "
            "`nnUNetTrainerSpecialist_t1_t2`.\n",
            "Plain and residual-encoder U-Net plans, 2d and 3d, any number of modalities, regions or classes, ignore\n"
            "label. Not cascades, and not plans that are no U-Nets.\n",
        ]
    )


def own_endings(entries: Sequence[TrainerEntry]) -> list[tuple[str, str, str]]:
    """Rows of the endings that trainers list themselves."""
    return [(f"`{ending}`", text, owners_text(names, entries)) for ending, text, names in endings_with_owners(entries)]


def paper(entry: TrainerEntry) -> str:
    """Link to a trainer's paper."""
    return f"[{entry.paper}]({entry.url})" if entry.url else entry.paper or "–"


def editions() -> str:
    """Every edition: its default data set, channels, regions, and what is uncertain."""
    rows = [
        (
            f"`{spec.name}`",
            spec.title,
            f"`Dataset{spec.dataset_id:03d}_{spec.dataset_name}`",
            ", ".join(channel.display for channel in spec.channels),
            ", ".join(spec.regions),
        )
        for spec in EDITIONS.values()
    ]
    notes = [f"- {spec.title}: {note}" for spec in EDITIONS.values() for note in spec.notes]
    terms = [(spec.title, f"<{spec.reference}>" if spec.reference else "", spec.licence) for spec in EDITIONS.values()]
    tasks = [(f"`{task.name}`", task.title, ", ".join(task.regions)) for task in LESION_TASKS.values()]
    return "\n".join(
        [
            NOTE,
            "# Editions\n",
            "What `mmkd convert`, `mmkd phantom` and `mmkd submit` know; `mmkd convert auto` recognises them.\n",
            table(["edition", "challenge", "data set", "modalities", "regions"], rows),
            "## What is uncertain\n",
            "\n".join(notes) + "\n",
            "## Where the data are, and their terms\n",
            table(["challenge", "source", "terms"], terms),
            "## Tasks of lesion-wise scores\n",
            "`mmkd evaluate --lesions TASK`.\n",
            table(["task", "", "regions"], tasks),
        ]
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""

    def lines() -> Iterator[str]:
        yield "| " + " | ".join(header) + " |"
        yield "|" + "---|" * len(header)
        for row in rows:
            yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"

    return "\n".join(lines()) + "\n"


if __name__ == "__main__":
    main()
