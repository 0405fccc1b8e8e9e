"""``mmkd convert``: a challenge's folder -> nnU-Net raw format."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.catalogue import EDITIONS, get_edition
from nnunetv2_mmkd.editions.custom import CUSTOM, Definition, parse_labels, parse_modalities
from nnunetv2_mmkd.editions.recognise import recognise
from nnunetv2_mmkd.editions.spec import LABEL_STYLES, EditionSpec
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.files import write_text
from nnunetv2_mmkd.protocols.splits import USUAL_FOLDS, write_default_splits, write_splits
from nnunetv2_mmkd.workflows.next_steps import predict_with_folder, training_commands

OWN_EDITION = "mmkd_edition.yaml"
"""What the options of ``mmkd convert custom`` said, in the data set's folder."""

HELP = "turn a challenge's folder into nnU-Net raw format; cases with missing modalities are welcome"

logger = logging.getLogger(__name__)


class _ListEditions(argparse.Action):
    """``--list``: print the editions and leave, like ``--version``."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        widths = [
            max(map(len, texts)) + 2 for texts in zip(*((s.name, s.title) for s in EDITIONS.values()), strict=True)
        ]
        for spec in EDITIONS.values():
            channels = ", ".join(channel.display for channel in spec.channels)
            default = f"Dataset{spec.dataset_id:03d}_{spec.dataset_name}"
            sys.stdout.write(f"{spec.name:<{widths[0]}}{spec.title:<{widths[1]}}{default:<28}{channels}\n")
            for note in spec.notes:
                sys.stdout.write(f"{'':<{widths[0]}}uncertain: {note}\n")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd convert``."""
    parser = arguments.Parser(prog="mmkd convert", description=HELP)
    parser.add_argument(
        "edition",
        help="the edition, e.g. brats2018 (--list shows all); auto to recognise it; a YAML file with one of your "
        "own; or custom, with --images, --labels, --modalities and --label",
    )
    parser.add_argument(
        "sources", nargs="*", type=arguments.path, metavar="SRC", help="folder with the cases, nested or flat"
    )
    parser.add_argument(
        "-i", dest="more", nargs="+", default=[], type=arguments.path, metavar="SRC", help="the same, as an option"
    )
    parser.add_argument(
        "-d", dest="dataset_id", type=arguments.dataset_id, metavar="ID", help="data set id (default: the edition's)"
    )
    parser.add_argument(
        "--labels", metavar="STYLE",
        help="label style, regions or classes (default: regions, where there are any); for custom the template of the "
        "segmentations, or with --bids their entities and suffix, e.g. dseg",
    )  # fmt: skip
    parser.add_argument(
        "--name", type=arguments.name, help="name of the data set without DatasetXXX_ (default: the edition's)"
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        metavar="HOW",
        help="splits as `mmkd splits` makes them: patients, institutions [CSV], lists",
    )
    own = parser.add_argument_group("a data set of your own (custom)")
    own.add_argument(
        "--images", metavar="TEMPLATE",
        help="where the images are, below SRC, e.g. '{case}/{case}_{modality}.nii.gz'; also {patient}, {session} and *",
    )  # fmt: skip
    own.add_argument("--bids", action="store_true", help="the images are in BIDS; sub, ses and run name the cases")
    own.add_argument(
        "--modalities", nargs="+", action="extend", metavar="NAME=WORD,WORD",
        help="modalities in channel order, and what stands for {modality}, e.g. T1=t1 T1ce=t1c,t1gd FLAIR; with --bids "
        "e.g. T1=T1w T1ce=ce-gd_T1w",
    )  # fmt: skip
    own.add_argument(
        "--label", nargs="+", action="extend", metavar="NAME=VALUE,VALUE",
        help="names of the values in the segmentations, e.g. edema=2 core=1,4; overlapping ones are regions: WT=1,2,4 "
        "TC=1,4 ET=4",
    )  # fmt: skip
    parser.add_argument("-np", dest="processes", type=arguments.processes, metavar="N", help="worker processes")
    parser.add_argument("--disable_progress_bar", action="store_true", help="show no progress bar")
    parser.add_argument("--list", action=_ListEditions, nargs=0, help="show the editions and leave")
    return parser


def main(argv: Sequence[str]) -> int:
    """``mmkd convert EDITION SRC [SRC ...] -d ID``; returns the exit code."""
    parser = build_parser()
    args = parser.parse_intermixed_args(argv)
    if not args.sources + args.more:
        parser.error("give the folder with the cases (SRC)")
    custom = args.edition.strip().lower() == CUSTOM
    given = [f"--{name}" for name in ("images", "bids", "modalities", "label") if getattr(args, name)]
    if given and not custom:
        parser.error(f"{given[0]} describes a data set of your own: give it with `mmkd convert custom`")
    if not custom and args.labels not in (None, *LABEL_STYLES):
        parser.error(f"argument --labels: invalid choice: {args.labels!r} (choose from {', '.join(LABEL_STYLES)})")
    own = _own(args) if custom else None
    spec = _edition(args.edition, args.sources + args.more) if own is None else own.edition()
    dataset_id = args.dataset_id or spec.dataset_id
    if not dataset_id:
        parser.error("give the number of the data set, from 1 to 999, with -d")
    how = args.splits or ["patients"]
    for file in how[how[0] in ("patients", "institutions") :]:
        if not Path(file).is_file():
            raise InputError(f"--splits {file}: there is no such file; expected patients, institutions [CSV] or lists")
    target = convert(
        spec,
        args.sources + args.more,
        dataset_id,
        labels=spec.default_labels if custom or args.labels is None else args.labels,
        name=args.name,
        processes=args.processes,
        show_progress=not args.disable_progress_bar,
    )
    if own is not None:
        write_text(target / OWN_EDITION, own.as_yaml())
        logger.info("the same as a file, for the next time: %s", target / OWN_EDITION)
    commands = [predict_with_folder(str(target / "imagesTs"))]
    if cases := len(list((target / "labelsTr").iterdir())):
        written = write_splits(dataset_id, args.splits) if args.splits else write_default_splits(dataset_id)
        if written is not None:
            sys.stdout.write("\n".join(written.lines()) + "\n")
        few = max(2, cases) if cases < USUAL_FOLDS and written is None else 0
        commands = training_commands(dataset_id, spec.configuration, few)
    elif args.splits:
        logger.warning("--splits: no case has a label, so there is nothing to split")
    sys.stdout.write("\n".join(["next:", *(f"  {command}" for command in commands)]) + "\n")
    return 0


def _own(args: argparse.Namespace) -> Definition:
    """What the options describe."""
    return Definition(
        images=args.images or "",
        labels=args.labels or "",
        modalities=parse_modalities(args.modalities or ()),
        label=parse_labels(args.label or ()),
        bids=args.bids,
        dataset_id=args.dataset_id or 0,
        dataset_name=args.name or "",
    )


def _edition(name: str, sources: Sequence[Path]) -> EditionSpec:
    if name.strip().lower() != "auto":
        return get_edition(name)
    recognised = recognise(sources)
    for reason in recognised.reasons:
        logger.info("%s", reason)
    logger.info("recognised as %s (%s)", recognised.spec.title, recognised.spec.name)
    return recognised.spec
