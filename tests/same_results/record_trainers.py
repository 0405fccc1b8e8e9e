"""Trainings of every public trainer, and checkpoints that another commit goes on from."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from same_results.exact_values import digest, euclidean, exact, key_paths
from same_results.tried_trainings import TRAININGS, Training
from same_results.value_record import Record
from same_results.workbench import QUICK, Bench, seed
from tiny_nnunet import differences

import nnunetv2_mmkd.trainer_variants as variants

SAVED = ("MetaKD", "LCKD", "MSTKDNet", "SubsetKD", "PASSION", "PMR", "RFNet", "ModalityDropout", "Specialist_t1_t2")

LATE = {"MetaKD": 6956, "LCKD": 6956, "RFNet": 667, "PMR": 500}
"""Iterations of a training of 10,000 at which a phase ends: warm-up with all modalities, streams alone, PMR's PER."""


def record_trainers(bench: Bench) -> None:
    """Every public trainer: 20 steps, the network, the checkpoint, predictions with all and without T1ce."""
    with bench.part("trainers/public names"):
        bench.record.add("trainers/public names", public_trainers())
    for training in TRAININGS:
        if not bench.wants(f"trainers/{training.name}"):
            continue
        with bench.part(f"trainers/{training.name}"):
            record_training(bench, training, f"trainers/{training.name}")


def public_trainers() -> list[str]:
    """Names of the trainers that the modules of ``trainer_variants`` define."""
    names = []
    for module in pkgutil.iter_modules(variants.__path__):
        text = (Path(variants.__path__[0]) / f"{module.name}.py").read_text(encoding="utf-8")
        names += re.findall(r"^class (nnUNetTrainer\w*)", text, re.MULTILINE)
    return sorted(names)


def record_training(bench: Bench, training: Training, name: str) -> None:
    """Train and record."""
    model = bench.train(training)
    add = bench.record.add
    add(f"{name}/losses", list(bench.losses[training]))
    state = bench.final[training]
    add(f"{name}/network/keys", [path.removeprefix("/") for path in key_paths(state)])
    add(f"{name}/network/weights", digest(state))
    add(f"{name}/network/norm", euclidean(state))
    fold = model / f"fold_{training.fold}"
    for file in ("checkpoint_final.pth", "checkpoint_best.pth"):
        add(f"{name}/{file} is there", (fold / file).is_file())
    checkpoint = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    record_checkpoint(bench.record, f"{name}/checkpoint", checkpoint)
    bench.record.add_folder(f"{name}/fold", fold)
    add(f"{name}/plans entry", json.dumps(json.loads((model / "plans.json").read_text()).get("mmkd"), sort_keys=True))
    images = bench.images(training, "case_3")
    how = [*QUICK, "--save_probabilities"]
    bench.predict(f"{name}/predicted/all", model, images, *how, folds=[training.fold])
    bench.predict(f"{name}/predicted/without t1ce", model, images, *how, "--missing", "t1ce", folds=[training.fold])


def record_checkpoint(record: Record, name: str, checkpoint: Mapping[str, Any]) -> None:
    """Record the keys of a checkpoint, hashes of what is in it, and the curves."""
    record.add(f"{name}/keys", sorted(checkpoint))
    record.add(f"{name}/network_weights", digest(checkpoint["network_weights"]))
    record.add(f"{name}/optimizer_state", digest(checkpoint["optimizer_state"]))
    for key in ("trainer_name", "current_epoch", "_best_ema", "inference_allowed_mirroring_axes"):
        record.add(f"{name}/{key}", str(exact(checkpoint[key])))
    ours = checkpoint.get("mmkd", {})
    record.add(f"{name}/mmkd keys", key_paths(ours, "mmkd"))
    for key, value in ours.items():
        if isinstance(value, Mapping):
            for inner, each in value.items():
                record.add(f"{name}/mmkd/{key}/{inner}", digest(each))
        else:
            record.add(f"{name}/mmkd/{key}", digest(value))
    for key, values in checkpoint["logging"].items():
        if not key.endswith("timestamps"):
            record.add_leaves(f"{name}/curve {key}", values)


def record_late(bench: Bench) -> None:
    """Steps across the end of a phase of a long training, which is entered through an edited checkpoint."""
    for name, boundary in LATE.items():
        if not bench.wants(f"late/{name}"):
            continue
        with bench.part(f"late/{name}"), bench.variables(nnUNet_results=bench.new("late")):
            training = Training(name)
            long = f"nnUNetTrainer{name}_seed1_2000epochs_5iters"
            trainer = bench.trainer(training, long)
            trainer.on_train_start()
            file = Path(trainer.output_folder) / "checkpoint_edited.pth"
            trainer.save_checkpoint(str(file))
            checkpoint = torch.load(file, weights_only=False)
            checkpoint["mmkd"]["iteration"] = boundary - 3
            checkpoint["current_epoch"] = (boundary - 3) // 5
            torch.save(checkpoint, file)
            trainer = bench.trainer(training, long)
            trainer.load_checkpoint(str(file))
            trainer.on_train_start()
            seed()
            trainer.network.train()
            losses = [float(trainer.train_step(next(trainer.dataloader_train))["loss"]) for _ in range(7)]
            bench.record.add(f"late/{name}/losses", losses)
            bench.record.add(f"late/{name}/weights", digest(dict(trainer.network.state_dict())))


def record_saved(bench: Bench) -> None:
    """Models, perhaps of another commit (``--models``), predict, and go on from their checkpoint after one epoch."""
    for trainer in SAVED:
        training = Training(trainer)
        if not bench.wants(f"saved/{trainer}"):
            continue
        with bench.part(f"saved/{trainer}"):
            name = f"saved/{trainer}"
            elsewhere = bench.models if bench.models is not None and bench.models.is_dir() else None
            source = elsewhere or bench.train(training).parent
            model = bench.new("saved") / bench.model_folder(training).name
            shutil.copytree(source / model.name, model)
            images = bench.images(training, "case_3", "case_4", without={"case_4": [1]})
            bench.predict(f"{name}/predicted", model, images, *QUICK, "--save_probabilities")
            with bench.variables(nnUNet_results=bench.new("resumed")):
                resumed = bench.trainer(training)
                resumed.load_checkpoint(str(model / "fold_0" / "checkpoint_middle.pth"))
                bench.record.add(f"{name}/resumed at", int(resumed.current_epoch))
                resumed.run_training()
                state = dict(resumed.network.state_dict())
                bench.record.add(f"{name}/weights", digest(state))
                bench.train(training)
                equal = not differences(state, bench.final[training])
                bench.record.add(f"{name}/equals the uninterrupted training", equal)


def keep_models(bench: Bench, folder: Path) -> None:
    """Keep the models of :func:`record_saved` for another commit."""
    folder.mkdir(parents=True)
    for trainer in SAVED:
        model = bench.train(Training(trainer))
        shutil.copytree(model, folder / model.name)


def record_train(bench: Bench) -> None:
    """``mmkd train`` with nnU-Net's validation, and from another model's weights."""
    for trainer in ("ModalityDropout", "MetaKD"):
        with bench.part(f"train/{trainer}"), bench.variables(nnUNet_results=bench.new("results")):
            dataset = bench.data(3, "regions")
            before = bench.train(Training(trainer, (3, "regions"), label="regions"))
            results = Path(os.environ["nnUNet_results"]) / dataset
            for name, options in (
                ("plain", []),
                ("pretrained", ["-pretrained_weights", before / "fold_0" / "checkpoint_final.pth"]),
            ):
                length = "_seed2_1epochs_3iters" if options else "_1epochs_3iters_seed1"
                class_name = f"nnUNetTrainer{trainer}{length}"
                what = [dataset, "3d_fullres", 0, "-tr", class_name, "-device", "cpu", *options]
                bench.run(f"train/{trainer}/{name}", "train", *what)
                fold = results / f"{class_name}__nnUNetPlans__3d_fullres" / "fold_0"
                checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
                bench.record.add(f"train/{trainer}/{name}/weights", digest(checkpoint["network_weights"]))
                bench.record.add(f"train/{trainer}/{name}/loss", list(checkpoint["logging"]["train_losses"]))
                bench.record.add_folder(f"train/{trainer}/{name}/validation", fold / "validation")
    with bench.part("train/refused"):
        dataset = bench.data(3, "regions")
        end = ["-device", "cpu"]
        bench.run("train/refused/trainer", "train", dataset, "2d", 0, "-tr", "nnUNetTrainerNone", *end, expected=1)
        what = [dataset, "9d", 0, "-tr", "nnUNetTrainerMetaKD"]
        bench.run("train/refused/configuration", "train", *what, *end, expected=1)
