"""``mmkd evaluate``: all subsets of the modalities, from a trained model to the papers' table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.evaluation.metrics.empty import EMPTY_POLICIES
from nnunetv2_mmkd.evaluation.metrics.lesion_tasks import LESION_TASKS
from nnunetv2_mmkd.evaluation.metrics.registry import METRICS, metric_parameters
from nnunetv2_mmkd.evaluation.templates import templates
from nnunetv2_mmkd.paths import TRUST_HELP, require_variables, set_ext_trainer, trusting
from nnunetv2_mmkd.workers import supervised_workers
from nnunetv2_mmkd.workflows.next_steps import TRAINER

HELP = "all subsets of the modalities: scores, the papers' tables, pictures, performance card"

DESCRIPTION = """\
Score models, or existing segmentations, with every subset of the modalities. By default each validation
case is predicted by the fold that did not train on it, and the folds are pooled, as in nnU-Net's cross-validation.
Cases were cropped and normalised with all their images. A run that is interrupted goes on where it stopped.
In the output folder: report.html, a page to look at, with all of it; results.csv (method, case, subset, region, metric,
value), summary.csv, shapley.csv, tables/, figures/, predictions/. The validation Dice per subset goes into the model
folder's dataset.json, and `mmkd predict` then says per case what to expect.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd evaluate``."""
    parser = arguments.Parser("mmkd evaluate", description=DESCRIPTION)
    parser.add_argument("-o", required=True, type=arguments.output_folder, metavar="FOLDER", help="output folder")
    model = parser.add_argument_group("what", "models by -d, -c and -tr or by -m; segmentations by --predictions")
    model.add_argument("-d", help="data set, name or id")
    model.add_argument("-c", help="configuration, e.g. 3d_fullres")
    model.add_argument("-tr", nargs="+", default=[TRAINER], help=f"trainers (default: {TRAINER})")
    model.add_argument("-p", default="nnUNetPlans", help="plans identifier (default: %(default)s)")
    model.add_argument("-m", nargs="+", type=arguments.path, metavar="FOLDER", default=[], help="model folders")
    model.add_argument(
        "--predictions", nargs="+", metavar="NAME=FOLDER", default=[], help="folders with SUBSET/CASE.nii.gz, needs -l"
    )
    model.add_argument(
        "--names", nargs="+", type=arguments.name, help="names of the models in the tables (default: their trainers)"
    )
    model.add_argument("--trust", action="store_true", help=TRUST_HELP)
    cases = parser.add_argument_group("cases")
    cases.add_argument("-f", nargs="+", type=arguments.fold, help="folds (default: all that are trained)")
    cases.add_argument(
        "-chk", type=arguments.file_name, default="checkpoint_final.pth", help="checkpoint (default: %(default)s)"
    )
    cases.add_argument(
        "--test", action="store_true", help="the test cases that `mmkd splits` listed; the folds are averaged"
    )
    cases.add_argument(
        "-i",
        type=arguments.folder,
        metavar="FOLDER",
        help="images instead of the validation cases, in a folder as mmkd predict -i takes it; the folds are averaged. "
        "With --predictions alone: CASE_XXXX images, shown below the segmentations",
    )
    cases.add_argument("-l", type=arguments.folder, metavar="FOLDER", help="their segmentations")
    cases.add_argument(
        "--dataset_json", type=arguments.file, metavar="FILE", help="for --predictions (default: next to the labels)"
    )
    cases.add_argument(
        "--subsets", nargs="+", default=["all"], metavar="SUBSET", help="all (default), singles, full, or e.g. t1+t2"
    )
    scores = parser.add_argument_group("scores")
    scores.add_argument(
        "--metrics",
        nargs="+",
        default=["dice", "hd95"],
        metavar="NAME",
        help=f"of {', '.join(METRICS)} (default: dice hd95)",
    )
    scores.add_argument(
        "--empty",
        default="legacy",
        choices=list(EMPTY_POLICIES),
        help="policy for empty regions (default: %(default)s)",
    )
    for name, parameter in metric_parameters().items():
        scores.add_argument(
            f"--{name}", type=arguments.number(parameter.least), default=parameter.default,
            metavar=parameter.unit.upper(),
            help=f"{parameter.help.replace('%', '%%')} (default: %(default)s)",
        )  # fmt: skip
    scores.add_argument(
        "--lesions", metavar="TASK",
        help="also lesion-wise scores and a ranking by them (default: those of the data set's edition from BraTS 2025 "
        f"on; none: none): {', '.join(LESION_TASKS)}",
    )  # fmt: skip
    scores.add_argument(
        "--et_threshold", type=arguments.whole(0), nargs="?", const=500, default=0, metavar="VOXELS",
        help="also scores of ET after predictions of fewer voxels were removed (500 if no number is given)",
    )  # fmt: skip
    report = parser.add_argument_group("tables and pictures")
    report.add_argument(
        "--published",
        nargs="+",
        default=[],
        metavar="TABLE",
        help="published tables to show alongside: metakd_table1, ...",
    )
    report.add_argument(
        "--template", nargs="+", default=[], metavar="TABLE",
        help="the papers' own tables, ours beside the published columns, with the metrics they need: "
        f"{', '.join(templates())}",
    )  # fmt: skip
    report.add_argument(
        "--improvement",
        metavar="NAME",
        help="add the relative improvement of this method over the others; in a template it is tested against them",
    )
    report.add_argument("--overlay", nargs="+", default=[], metavar="CASE", help="cases to draw (default: one)")
    report.add_argument(
        "--overlay_subsets", nargs="+", default=[], metavar="SUBSET",
        help="their columns, as --subsets, e.g. full singles (default: the full set and those that lack one)",
    )  # fmt: skip
    report.add_argument(
        "--overlay_brightness",
        type=arguments.number(above=0, most=100),
        default=1.0,
        metavar="FACTOR",
        help="of the image below (default: 1)",
    )
    report.add_argument(
        "--reference", metavar="NAME", help="modality under the overlays, or an image file (default: the last modality)"
    )
    report.add_argument(
        "--specialists", metavar="NAME", help="in the tables all specialists are one method, a subset from each"
    )
    report.add_argument("--no_page", action="store_true", help="no report.html, the page to look at")
    report.add_argument("--no_card", action="store_true", help="leave the models' folders as they are")
    window = parser.add_argument_group("prediction")
    window.add_argument(
        "-step_size", type=arguments.window_step, default=0.5, help="of the sliding window (default: %(default)s)"
    )
    window.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, less accurate")
    window.add_argument("-device", default="cuda", help="cuda (default), cpu or mps")
    window.add_argument("--not_on_device", action="store_true", help="keep the results off the device")
    window.add_argument("-np", type=arguments.processes, default=3, help="processes that score (default: %(default)s)")
    window.add_argument(
        "-nps", type=arguments.workers, default=3, help="processes that export (default: %(default)s); 0: none"
    )
    window.add_argument("--overwrite", action="store_true", help="throw away predictions of another model in -o")
    window.add_argument("--disable_progress_bar", action="store_true", help="no progress bars")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.d is None) != (args.c is None):
        parser.error("-d and -c belong together")
    folders = {}
    for text in args.predictions:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder:
            parser.error(f"--predictions takes NAME=FOLDER, not {text}")
        folders[name] = folder
    folds = None if args.f is None else tuple(args.f)
    set_ext_trainer()

    from nnunetv2_mmkd.evaluation.page.render import PAGE
    from nnunetv2_mmkd.evaluation.score import ScoreSettings
    from nnunetv2_mmkd.inference.model_folder import model_folder
    from nnunetv2_mmkd.workflows.evaluate.run import evaluate, name_models
    from nnunetv2_mmkd.workflows.evaluate.settings import ReportOptions, Target, WindowSettings

    models = [str(folder) for folder in args.m]
    if args.d is not None:
        require_variables(["nnUNet_results"])
        models = [model_folder(args.d, trainer, args.p, args.c) for trainer in args.tr] + models
    if folders and not models:
        for flag, value in (("-f", args.f), ("--names", args.names)):
            if value:
                parser.error(f"{flag} is for models: segmentations of --predictions are scored as they are, with -l")
    if args.test and not models:
        parser.error("--test takes the test cases of a model's data set: name a model, by -d, -c and -tr or by -m")
    window = WindowSettings(
        args.step_size, not args.disable_tta, args.device, not args.not_on_device, args.nps,
        not args.disable_progress_bar,
    )  # fmt: skip
    parameters = {name: getattr(args, name) for name in metric_parameters()}
    settings = ScoreSettings(tuple(args.metrics), args.empty, parameters, args.lesions, args.et_threshold)
    images, labels, dataset_json = (path and str(path) for path in (args.i, args.l, args.dataset_json))
    target = Target(tuple(args.subsets), folds, args.chk, images, labels, dataset_json, args.test)
    report = ReportOptions(
        tuple(args.published), args.improvement, not args.no_card, tuple(args.overlay), args.reference,
        args.specialists, tuple(args.overlay_subsets), args.overlay_brightness, not args.no_page,
        tuple(args.template),
    )  # fmt: skip
    named = name_models(models, args.names)
    output: Path = args.o
    with trusting(args.trust), supervised_workers():
        evaluate(output, named, folders, target, window, settings, report, processes=args.np, overwrite=args.overwrite)
    for file in sorted((output / "tables").glob("*.txt")):
        sys.stdout.write("\n" + file.read_text(encoding="utf-8"))
    sys.stdout.write(
        f"\nThese tables for a paper: {output / 'tables'}\nfigures: {output / 'figures'}\n"
        f"every value: {output / 'results.csv'}\n" + (f"to look at: {output / PAGE}\n" if report.page else "")
    )
    return 0
