"""``mmkd figure``: the papers' figures of finished trainings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.output_folders import check_apart
from nnunetv2_mmkd.paths import TRUST_HELP, require_variables, set_ext_trainer, trusting

HELP = "the papers' figures of finished trainings: importance, preference, elections, curves over alpha"

DESCRIPTION = """\
Draw what the papers show of trainings: a PNG, and the numbers behind it in a CSV of the same name. From models (-d, -c
and -tr, or -m): importance (weights of MetaKD and MCKD), fill (MetaKD's filled features against real ones), preference
(PASSION, several runs in a plot), elections (LCKD's teachers by region). From tables of results (-i): alpha (a metric
over the weight of the distillation). Trainings that differ only in seed or fold are one line, with their standard
deviation.
"""

KINDS = ("importance", "fill", "preference", "elections", "alpha")


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd figure``."""
    parser = arguments.Parser("mmkd figure", description=DESCRIPTION)
    parser.add_argument("kind", choices=KINDS, help="what to draw")
    parser.add_argument("-o", required=True, type=arguments.output_file, metavar="PNG", help="picture to write")
    model = parser.add_argument_group("trainings", "for all kinds but alpha")
    model.add_argument("-d", help="data set, name or id")
    model.add_argument("-c", help="configuration, e.g. 3d_fullres")
    model.add_argument("-tr", nargs="+", default=[], help="trainers")
    model.add_argument("-p", default="nnUNetPlans", help="plans identifier (default: %(default)s)")
    model.add_argument("-m", nargs="+", type=arguments.path, metavar="FOLDER", default=[], help="model folders")
    model.add_argument("-f", nargs="+", type=arguments.fold, help="folds (default: all that are trained)")
    model.add_argument(
        "-chk", type=arguments.file_name, default="checkpoint_final.pth", help="checkpoint (default: %(default)s)"
    )
    model.add_argument(
        "--smooth", type=arguments.positive, default=1, metavar="N", help="moving average of curves over N epochs"
    )
    model.add_argument("--trust", action="store_true", help=TRUST_HELP)
    results = parser.add_argument_group("results", "for alpha")
    results.add_argument(
        "-i", nargs="+", type=arguments.file, metavar="CSV", default=[],
        help="results_by_seed.csv of `mmkd sweep`, or results.csv of `mmkd evaluate`",
    )  # fmt: skip
    results.add_argument("--metric", default="dice", help="(default: %(default)s)")
    results.add_argument("--regions", nargs="+", default=[], help="(default: all)")
    results.add_argument(
        "--subsets", nargs="+", default=[], metavar="SUBSET", help="tested with, e.g. t1 as in MetaKD (default: all)"
    )
    parser.add_argument("--title", default="", help="above the picture")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.kind == "alpha" and (not args.i or args.m or args.d):
        parser.error("alpha is drawn from tables of results: give them, and no models, with -i")
    if args.kind != "alpha" and args.i:
        parser.error(f"{args.kind} is drawn from models: give them by -d, -c and -tr or by -m, and no tables")
    if args.kind != "alpha" and not args.m and None in (args.d, args.c):
        parser.error("give the models by -d, -c and -tr, or by -m")
    if args.d is not None and not args.tr:
        parser.error("-d and -c need the trainers, -tr")
    set_ext_trainer()

    from nnunetv2_mmkd.inference.model_folder import model_folder
    from nnunetv2_mmkd.workflows.figures import draw_alpha, draw_curve_figure, draw_elections

    output: Path = args.o
    check_apart(output.with_suffix(".csv"), *args.i)
    models = [str(folder) for folder in args.m]
    if args.d is not None:
        require_variables(["nnUNet_results"])
        models = [model_folder(args.d, trainer, args.p, args.c) for trainer in args.tr] + models
    with trusting(args.trust):
        if args.kind == "alpha":
            draw_alpha(args.i, output, args.metric, args.regions, args.subsets, args.title)
        elif args.kind == "elections":
            draw_elections(models, args.f, args.chk, output, args.title)
        else:
            draw_curve_figure(args.kind, models, args.f, args.chk, output, args.smooth, args.title)
    sys.stdout.write(f"{output}\nnumbers: {output.with_suffix('.csv')}\n")
    return 0
