"""``mmkd card``: a model card for the Hugging Face Hub."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from nnunetv2_mmkd.cli import arguments
from nnunetv2_mmkd.paths import TRUST_HELP, set_ext_trainer, trusting

log = logging.getLogger(__name__)

HELP = "write a model card for the Hugging Face Hub from what a model's folder knows"


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd card``."""
    parser = arguments.Parser(
        "mmkd card",
        description="Write a model card for the Hugging Face Hub: intended use, data, training, performance by "
        "subset, limits. It is made of plans.json, dataset.json with the performance card of mmkd evaluate, the "
        "checkpoints and the trainer's own words; what they do not know, the card says.",
    )
    parser.add_argument("-m", required=True, type=arguments.path, metavar="MODEL_FOLDER", help="folder of the model")
    parser.add_argument(
        "-o", type=arguments.output_file, metavar="FILE", help="the card (default: MODEL_FOLDER/README.md)"
    )
    parser.add_argument("-f", nargs="+", type=arguments.fold, default=(), help="folds (default: all that are trained)")
    parser.add_argument(
        "-chk", type=arguments.file_name, default="checkpoint_final.pth", help="checkpoint (default: %(default)s)"
    )
    parser.add_argument(
        "--license", default="unknown", metavar="ID",
        help="licence of the model, an identifier of the Hub such as apache-2.0 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.o is not None and args.o.suffix.lower() != ".md":
        parser.error(f"-o {args.o}: a card is a Markdown file; name it *.md")
    set_ext_trainer()

    from nnunetv2_mmkd.workflows.model_card import write_model_card

    with trusting(args.trust):
        file = write_model_card(
            str(args.m), args.o, folds=args.f, checkpoint=args.chk, licence=args.license, overwrite=args.overwrite
        )
    log.info("%s: look it through and complete it before you publish it", file)
    return 0
