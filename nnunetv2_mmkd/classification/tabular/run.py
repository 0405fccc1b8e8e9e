"""Training on a sheet, and its accuracy and F1 for every subset of the modalities.

Legend: N subjects, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from nnunetv2_mmkd.classification.encoders import TabularEncoder, VolumeEncoder
from nnunetv2_mmkd.classification.network import MultiModalClassifier
from nnunetv2_mmkd.classification.prediction import predict_probabilities, rows_with
from nnunetv2_mmkd.classification.rivals import RIVALS, builder_of
from nnunetv2_mmkd.classification.scores import macro_f1
from nnunetv2_mmkd.classification.subjects import Subjects
from nnunetv2_mmkd.classification.tabular.balance import class_weights, oversample
from nnunetv2_mmkd.classification.tabular.parts import TabularSplit, make_split
from nnunetv2_mmkd.classification.tabular.reader import IMAGING, Sheet
from nnunetv2_mmkd.classification.tabular.volumes import read_volumes
from nnunetv2_mmkd.classification.training import TrainSettings, train_classifier
from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.evaluation.figures.learned import draw_learned, of_group
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.report import write_report
from nnunetv2_mmkd.evaluation.result_table import COLUMNS, ResultTable
from nnunetv2_mmkd.evaluation.subsets import AVERAGE, all_subset_names
from nnunetv2_mmkd.methods.base import Method
from nnunetv2_mmkd.methods.lckd import LCKD
from nnunetv2_mmkd.methods.lckd_config import LCKDConfig
from nnunetv2_mmkd.methods.metakd import MetaKD
from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.methods.modality_dropout import ModalityDropout
from nnunetv2_mmkd.modalities import ModalityDropoutConfig, all_subsets
from nnunetv2_mmkd.training.curves import draw_curves

DEFAULT_METHODS = ("ModalityDropout", "LCKD", "MetaKD")
METHODS = (*DEFAULT_METHODS, *RIVALS)
"""What can be trained; the rivals on request."""
BALANCES: Mapping[str, str] = {
    "smote": "synthetic training subjects of rare classes",
    "weights": "class-weighted cross-entropy",
    "none": "classes as frequent as they are",
}
PUBLISHED = "metakd_table2"
"""The published table of ADNI."""


@dataclass(frozen=True)
class TabularProtocol:
    """Everything that decides the numbers.

    Attributes:
        methods: of :data:`METHODS`.
        seeds: repetitions, each with its own split and initialisation.
        balance: a key of :data:`BALANCES` (§8: SMOTE).
        grid: voxels per axis of a volume (paper silent).
        width: of the features (paper silent).
        meta: MetaKD's hyper-parameters: L1 (§8), importance weights by gradient descent with 1e-2 (§8), a meta-update
            every 10 iterations (§8: "periodic validation every 10 iterations").
        train: Adam 1e-3, times 0.9 every 10 epochs, L2 penalty 5e-5, 100 epochs (§8); batch size and modality dropout
            are not given (the distribution is that of the paper's other experiments).

    Raises:
        InputError: an unknown method or balance, or no seed.

    References:
        Wang et al., MetaKD, §7 and §8.
    """

    methods: tuple[str, ...] = DEFAULT_METHODS
    seeds: int = 1
    balance: str = "smote"
    grid: int = 32
    width: int = 64
    meta: MetaKDConfig = field(
        default_factory=lambda: MetaKDConfig(meta_optimizer="sgd", meta_interval=10, meta_weight_decay=0.0)
    )
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            epochs=100,
            batch_size=32,
            lr_every=10,
            weight_decay=5e-5,
            modality_dropout=ModalityDropoutConfig("count_uniform"),
        )
    )

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise InputError(
                f"unknown method {', '.join(unknown) or 'none'}; there are {choices((*unknown, '')[0], METHODS)}"
            )
        if self.balance not in BALANCES:
            raise InputError(f"unknown balance {self.balance!r}; there are {choices(self.balance, BALANCES)}")
        if self.seeds < 1:
            raise InputError(f"{self.seeds} seeds: expected at least 1")

    def method(self, name: str, seed: int) -> Method[Any]:
        """A method, freshly made."""
        if name in RIVALS:
            return RIVALS[name].method()
        if name == "LCKD":
            return LCKD(LCKDConfig(initial_teacher="none"))
        return MetaKD(replace(self.meta, seed=seed)) if name == "MetaKD" else ModalityDropout()


def make_network(subjects: Subjects, width: int, seed: int, method: str = "") -> MultiModalClassifier:
    """A method's network on a perceptron for each table and a small 3-D CNN for the volumes."""

    def encoder(name: str) -> nn.Module:
        return VolumeEncoder(width) if name == IMAGING else TabularEncoder(subjects.inputs[name].shape[1], width)

    return builder_of(method)(encoder, subjects.modalities, len(subjects.classes), seed)


def run_sheet(
    sheet: Sheet,
    protocol: TabularProtocol,
    output: Path,
    *,
    device: torch.device | str = "cpu",
    progress: bool = True,
    smooth: int = 1,
) -> pd.DataFrame:
    """Train each method on each split, score all subsets, write the report.

    Checkpoints are in ``models/``; an interrupted run continues from them. The report is that of ``mmkd evaluate``:
    ``results.csv``, ``tables/``, ``figures/``. Of methods that weigh modalities, ``figures/importance.png`` shows the
    weights over all seeds.

    Args:
        sheet: what the CSV holds.
        protocol: what to run.
        output: folder.
        device: where to train.
        progress: show progress bars.
        smooth: epochs of a moving average of the importance weights.

    Returns:
        The long table: accuracy of each test subject (0 or 100) and macro F1 of each split, for every subset.

    Raises:
        InputError: volumes that cannot be read, classes with too few subjects, or a checkpoint of another training.
    """
    volumes = read_volumes(sheet.volumes, protocol.grid, progress) if sheet.volumes else None
    splits = [make_split(sheet, volumes, seed) for seed in range(protocol.seeds)]
    balanced = [balance(split, protocol.balance, seed) for seed, split in enumerate(splits)]
    tables, learned = [], []
    for seed, (split, (training, weights)) in enumerate(zip(splits, balanced, strict=True)):
        for name in protocol.methods:
            network = make_network(training, protocol.width, seed, name)
            curves = train_classifier(
                network,
                protocol.method(name, seed),
                training,
                split.validation,
                replace(protocol.train, seed=seed),
                class_weights=weights,
                device=device,
                checkpoint=output / "models" / f"{name}_seed{seed:02d}.pt",
                progress=progress,
            )
            draw_curves(curves, output / "figures" / f"learned_{name}_seed{seed:02d}.png", name)
            learned.append((name, curves))
            tables.append(score_subsets(network, split.test, name, f"seed{seed:02d}", device))
    table = pd.concat(tables, ignore_index=True)
    weighing = [(name, curves) for name, curves in learned if of_group(curves, "importance")]
    if weighing:
        draw_learned("importance", weighing, output / "figures" / "importance.png", smooth=smooth)
    write_report(
        ResultTable.from_frame(table, sheet.modalities),
        output,
        published=(PUBLISHED,) if _comparable(sheet.modalities) else (),
        notes=notes(sheet, splits, protocol),
    )
    return table


def balance(split: TabularSplit, kind: str, seed: int) -> tuple[Subjects, Tensor | None]:
    """The training subjects and the weights of the classes; see :data:`BALANCES`."""
    if kind == "smote":
        return oversample(split.training, split.categorical, seed=seed), None
    return split.training, class_weights(split.training) if kind == "weights" else None


def score_subsets(
    network: nn.Module, subjects: Subjects, method: str, split: str, device: torch.device | str = "cpu"
) -> pd.DataFrame:
    """Accuracy and F1 with every subset of the modalities, each of the subjects that have the whole subset.

    Args:
        network: a trained classifier.
        subjects: test subjects.
        method: its name in the table.
        split: the split's name in the table.
        device: of the network.

    Returns:
        Long table: ``accuracy`` per subject, 0 or 100; ``f1`` (macro, in %) per split. No rows for a subset that no
        subject has.
    """
    rows: list[tuple[str, str, str, str, str, float]] = []
    for name, subset in zip(all_subset_names(subjects.modalities), all_subsets(len(subjects.modalities)), strict=True):
        having = subjects.take(rows_with(subjects, subset))
        if not len(having):
            continue
        predicted = predict_probabilities(network, having, subset, device=device).argmax(1)
        for subject, correct in zip(having.ids, (predicted == having.labels).tolist(), strict=True):
            rows.append((method, f"{split}/{subject}", name, "all", "accuracy", 100.0 * correct))
        rows.append((method, split, name, "all", "f1", 100 * macro_f1(predicted, having.labels)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def notes(sheet: Sheet, splits: Sequence[TabularSplit], protocol: TabularProtocol) -> list[str]:
    """Lines for below the tables."""
    present = torch.cat([split.test.present for split in splits]).double().mean(0)
    shares = ", ".join(
        f"{name} {100 * float(share):.0f} %" for name, share in zip(sheet.modalities, present, strict=True)
    )
    first = splits[0]
    lines = [
        "accuracy: of the test subjects that have all modalities of the row, in %; f1: macro F1 of the same, in %, its "
        "cases are the splits",
        f"{len(first.training)}, {len(first.validation)}, {len(first.test)} subjects for training, validation (for "
        f"what methods need for themselves) and test; {protocol.seeds} split{'s' * (protocol.seeds > 1)}; classes "
        f"{', '.join(first.test.classes)}; balance: {protocol.balance}",
        f"modalities there in testing: {shares}",
    ]
    if sheet.left_out:
        lines.append(f"left out because they contain the diagnosis: {', '.join(sheet.left_out)}")
    return lines


def _comparable(modalities: Sequence[str]) -> bool:
    """Whether the published table is of the same modalities."""
    names = {name for cell in load_published(PUBLISHED)["subset"].unique() for name in str(cell).split("+")}
    return names - {AVERAGE} == set(modalities)
