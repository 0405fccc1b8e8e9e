"""``mmkd predict``: nnUNetv2_predict's own flags, and which modalities may be used."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.editions.custom import parse_modalities
from nnunetv2_mmkd.paths import TRUST_HELP, require_variables, set_ext_trainer, trusting
from nnunetv2_mmkd.workers import supervised_workers

HELP = "nnUNetv2_predict with its own flags, and --missing / --available"

DESCRIPTION = """\
Predict with any subset of the modalities. Images are named CASE_XXXX + file ending as for nnUNetv2_predict, or as they
come: case folders, flat files or BIDS, in the spelling of any edition or hospital (patient7_T1_post.nii.gz); what was
taken for what is shown before the work, and what could be two things is refused. Any image may be absent: cases may
differ in what they have. The output folder's mmkd_report.json says per case what was
used, what was missing, and why. With --models each case is predicted by the specialist for exactly what it has, else by
the model for any subset; the report then says which one it was.
"""


def _workers(variable: str) -> int:
    try:
        return int(os.environ.get(variable) or 3)
    except ValueError:
        return 3


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd predict``: the flags and defaults of ``nnUNetv2_predict``, and ours."""
    parser = arguments.Parser("mmkd predict", description=DESCRIPTION)
    ours = parser.add_argument_group("modalities")
    ours.add_argument("--missing", nargs="+", metavar="NAME", help="leave these modalities out of all cases (unread)")
    ours.add_argument("--available", nargs="+", metavar="NAME", help="use only these modalities")
    ours.add_argument(
        "--native", action="store_true",
        help="also write each segmentation on the grid of each sequence as it came, into OUTPUT/native (the input "
        "folder was made by mmkd align or mmkd preprocess)",
    )  # fmt: skip
    names = parser.add_argument_group("images that are not named as for nnU-Net")
    names.add_argument(
        "--modalities",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=WORD,WORD",
        help="words in file names that stand for a modality, e.g. T1=t1_pre T1ce=t1_post,t1_gd",
    )
    names.add_argument(
        "--ignore", nargs="+", default=[], metavar="WORD", help="leave out files with this word, e.g. dwi"
    )
    names.add_argument("--edition", metavar="NAME", help="read -i as `mmkd convert` reads this edition, or YAML file")
    names.add_argument(
        "--manifest",
        type=arguments.file,
        metavar="CSV",
        help="table of the cases: case, and a column for each modality with a path in -i (default: the table's folder)",
    )
    names.add_argument(
        "--output_name",
        default="{case}",
        metavar="TEMPLATE",
        help="names of the segmentations, e.g. '{folder}/{case}_seg' (default: %(default)s)",
    )
    names.add_argument("--dry_run", action="store_true", help="only show what would be taken for what")
    ours.add_argument(
        "--uncertainty", action="store_true",
        help="also say how sure each segmentation is: a map for each region, and in mmkd_report.json numbers and which "
        "modality the result leans on. Each case is predicted once more without each of its modalities",
    )  # fmt: skip
    model = parser.add_argument_group("model", "either -d and -c (with -tr and -p), or -m, or --models")
    model.add_argument("-d", help="data set, name or id")
    model.add_argument("-p", default="nnUNetPlans", help="plans identifier (default: %(default)s)")
    model.add_argument("-tr", default="nnUNetTrainer", help="trainer class, e.g. nnUNetTrainerModalityDropout")
    model.add_argument("-c", help="configuration, e.g. 3d_fullres")
    model.add_argument(
        "-m",
        type=arguments.path,
        metavar="MODEL_FOLDER",
        help="folder of the trained model, instead of -d, -tr, -p and -c",
    )
    model.add_argument(
        "--models", nargs="+", type=arguments.path, metavar="FOLDER", default=[],
        help="model folders: specialists of different subsets, and at most one model for any subset (which may also be "
        "named by -d, -c and -tr or by -m); -f and -chk hold for all of them",
    )  # fmt: skip
    model.add_argument(
        "-f", nargs="+", type=arguments.fold, default=(0, 1, 2, 3, 4), help="folds to average (default: 0 1 2 3 4)"
    )
    model.add_argument(
        "-chk", type=arguments.file_name, default="checkpoint_final.pth", help="checkpoint (default: %(default)s)"
    )
    model.add_argument("--trust", action="store_true", help=TRUST_HELP)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--report", action="store_true",
        help="also report.html, a page to look at: what was missing, what to expect, volumes, slices of every case",
    )  # fmt: skip
    host = parser.add_argument_group("as for nnUNetv2_predict")
    host.add_argument("-i", type=arguments.folder, help="input folder")
    host.add_argument("-o", type=arguments.folder, help="output folder; made if it does not exist")
    host.add_argument(
        "-step_size",
        type=arguments.window_step,
        default=0.5,
        help="step of the sliding window, in patches (default: %(default)s)",
    )
    host.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, less accurate")
    host.add_argument("--verbose", action="store_true", help="let nnU-Net talk")
    host.add_argument("--save_probabilities", action="store_true", help="also write the probabilities (.npz)")
    host.add_argument("--continue_prediction", action="store_true", help="leave out the cases that exist already")
    host.add_argument(
        "-npp", type=arguments.workers, default=_workers("nnUNet_npp"), help="preprocessing processes (default: 3)"
    )
    host.add_argument(
        "-nps",
        type=arguments.workers,
        default=_workers("nnUNet_nps"),
        help="export processes (default: 3); 0 with -npp 0: none",
    )
    host.add_argument(
        "-prev_stage_predictions", type=arguments.folder, help="predictions of the previous stage (cascades)"
    )
    host.add_argument(
        "-num_parts", type=arguments.positive, default=1, help="number of calls that share the work (default: 1)"
    )
    host.add_argument(
        "-part_id", type=arguments.whole(0), default=0, help="which of them this one is, from 0 (default: 0)"
    )
    host.add_argument("-device", default="cuda", help="cuda (default), cpu or mps")
    host.add_argument("--disable_progress_bar", action="store_true", help="no progress bars")
    host.add_argument(
        "--not_on_device", action="store_true", help="keep the results off the device, to save its memory"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    alone = args.models and args.m is None and args.d is None and args.c is None
    named = args.d is not None or args.c is not None
    if not alone and ((args.m is None) == (args.d is None or args.c is None) or (args.m is not None and named)):
        parser.error("name the model either by -d and -c (with -tr and -p), or by its folder with -m")
    if args.models and args.prev_stage_predictions:
        parser.error("-prev_stage_predictions is for the models of cascades, which --models cannot choose from")
    if (args.i is None and args.manifest is None) or (args.o is None and not args.dry_run):
        parser.error("give the input folder with -i (or --manifest), and the output folder with -o")
    if args.native and (args.i is None or args.edition or args.manifest or args.output_name != "{case}"):
        parser.error("--native needs -i, the output of mmkd align, without --edition, --manifest and --output_name")
    set_ext_trainer()
    if args.m is None and not alone:
        require_variables(["nnUNet_results"])

    from nnunetv2_mmkd.inference.inputs import InputImages
    from nnunetv2_mmkd.inference.model_folder import model_folder
    from nnunetv2_mmkd.inference.run import PredictionSettings, predict_folder, predict_with_models
    from nnunetv2_mmkd.registration.native import aligned_cases, write_native

    settings = PredictionSettings(
        folds=args.f,
        checkpoint=args.chk,
        step_size=args.step_size,
        mirroring=not args.disable_tta,
        device=args.device,
        on_device=not args.not_on_device,
        verbose=args.verbose,
        progress=not args.disable_progress_bar,
        save_probabilities=args.save_probabilities,
        overwrite=not args.continue_prediction,
        preprocessing_processes=args.npp,
        export_processes=args.nps,
        previous_stage=args.prev_stage_predictions and str(args.prev_stage_predictions),
        num_parts=args.num_parts,
        part_id=args.part_id,
        dry_run=args.dry_run,
        uncertainty=args.uncertainty,
        report=args.report,
    )
    general = None if alone else args.m or model_folder(args.d, args.tr, args.p, args.c)
    source, output = (
        InputImages(
            str(args.manifest.parent if args.i is None else args.i),
            manifest=args.manifest,
            edition=args.edition,
            spellings=parse_modalities(args.modalities),
            ignored=args.ignore,
            output_name=args.output_name,
        ),
        str(args.o),
    )
    aligned = aligned_cases(args.i) if args.native else []
    with trusting(args.trust), supervised_workers():
        if args.models:
            models = [str(folder) for folder in (*args.models, general) if folder is not None]
            predict_with_models(models, source, output, settings, missing=args.missing, available=args.available)
        else:
            predict_folder(str(general), source, output, settings, missing=args.missing, available=args.available)
        if args.native and not args.dry_run:
            write_native(args.i, args.o, aligned)
    return 0
