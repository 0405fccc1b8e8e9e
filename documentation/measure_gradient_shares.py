"""How strongly each term of MST-KDNet pulls the student early in a training, next to its task loss.

Needs a preprocessed data set and nnU-Net's variables; prints for some iterations the norm of each weighted term's
gradient over that of the student's task loss, and at the end their medians.

    python documentation/measure_gradient_shares.py 501 -p nnUNetPlans3mm --iterations 300
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from torch import Tensor, nn

from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMSTKDNet import nnUNetTrainerMSTKDNet


def gradient_norm(loss: Tensor, network: nn.Module) -> float:
    """L2 norm of the gradient over all parameters."""
    found = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
    return float(torch.stack([each.double().square().sum() for each in found if each is not None]).sum().sqrt())


def shares(trainer: Any, batch: dict[str, Any]) -> dict[str, float]:
    """Of each term, weighted, on one batch."""
    method, network = trainer.method, trainer.bare_network
    prepared = trainer.prepare(batch, trainer.cases.training_present)
    with torch.no_grad():
        teacher = method.teacher.trace(prepared.images, prepared.present)
    student = network.trace(prepared.images, prepared.available)
    task = gradient_norm(trainer.loss(student.output, prepared.target), network)
    terms = method.distances(teacher, student, prepared.valid)
    return {term: gradient_norm(method._weight(term) * value, network) / task for term, value in terms.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("dataset")
    parser.add_argument("-c", default="3d_fullres")
    parser.add_argument("-p", default="nnUNetPlans")
    parser.add_argument("-f", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--every", type=int, default=25)
    args = parser.parse_args()
    folder = Path(str(nnUNet_preprocessed)) / maybe_convert_to_dataset_name(args.dataset)
    plans = load_json(str(folder / f"{args.p}.json")) | {"continue_training": False}
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = nnUNetTrainerMSTKDNet(plans, args.c, args.f, load_json(str(folder / "dataset.json")), device)
    trainer.initialize()
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    rows = []
    for iteration in range(args.iterations):
        batch = next(trainer.dataloader_train)
        if iteration % args.every == args.every - 1:
            rows.append(shares(trainer, batch))
            sys.stdout.write(f"{iteration + 1} {', '.join(f'{k} {v:.3f}' for k, v in rows[-1].items())}\n")
        trainer.train_step(batch)
    for term in rows[0] if rows else ():
        sys.stdout.write(f"median {term} {median(row[term] for row in rows):.3f}\n")


if __name__ == "__main__":
    main()
