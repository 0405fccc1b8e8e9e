"""Whether the cases of a fold are there, as nnU-Net's preprocessing leaves them: looked at before a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.image_names import list_images
from nnunetv2_mmkd.nnunet_json import MISSING, read_object, read_splits
from nnunetv2_mmkd.protocols.data_set import SPLITS
from nnunetv2_mmkd.protocols.splits import USUAL_FOLDS

LABELS, FINGERPRINT = "gt_segmentations", "dataset_fingerprint.json"

_PARTS = {".b2nd": (".b2nd", "_seg.b2nd", ".pkl"), ".npz": (".npz", ".pkl")}
"""What nnU-Net writes of a case, by the ending of its image."""


def data_identifier(configurations: Mapping[str, Any], name: str) -> str:
    """Name of the folder of preprocessed cases, which a configuration may have from the one that it inherits from."""
    for _ in configurations:
        entry = configurations.get(name, {})
        if "data_identifier" in entry:
            return str(entry["data_identifier"])
        name = str(entry.get("inherits_from", ""))
    return ""


def check_prepared(prepared: Path, cases: Sequence[str], remedy: str) -> None:
    """Check that the files of all cases of a fold are there, and what else nnU-Net reads at the end of a training.

    Args:
        prepared: folder of the configuration's preprocessed cases, in that of the data set.
        cases: of the fold; none: all that are there.
        remedy: what to do.

    Raises:
        InputError: something is absent or empty, as where preprocessing was stopped.
    """
    sizes = {path.name: path.stat().st_size for path in prepared.iterdir() if path.is_file()}
    kind = next((ending for ending in _PARTS if any(name.endswith(ending) for name in sizes)), None)
    if not sizes:
        raise InputError(f"{prepared} holds no cases: {remedy}")
    if kind is not None:  # else a trainer of the user's own reads another format
        first, *others = _PARTS[kind]
        known = {
            name.removesuffix(first) for name in sizes if name.endswith(first) and not name.endswith("_seg" + first)
        }
        for case in cases or sorted(known):
            for part in (first, *others):
                if not sizes.get(case + part):
                    state = "is empty" if case + part in sizes else "does not exist"
                    raise InputError(f"{prepared / (case + part)} {state}: {remedy} again, to its end")
    for name in (LABELS, FINGERPRINT):
        if not (prepared.parent / name).exists():
            raise InputError(
                f"{prepared.parent / name} does not exist, which nnU-Net needs: run `nnUNetv2_plan_and_preprocess` "
                "again"
            )


def check_unchanged(content: Mapping[str, Any], file: Path, raw: Path, dataset: str) -> None:
    """Check that the data set still says of itself what it said when it was planned.

    Args:
        content: of the preprocessed data set's ``dataset.json``, which nnU-Net trains with.
        file: that.
        raw: ``dataset.json`` in ``nnUNet_raw``, if it still exists.
        dataset: name or id, for the message.

    Raises:
        InputError: names of channels, labels, regions or missing modalities differ.
    """
    now = read_object(raw) if raw.is_file() else content
    for key in ("channel_names", "labels", "regions_class_order", MISSING):
        if (now.get(key) or None) != (content.get(key) or None):
            raise InputError(
                f"{raw} and {file}, with which is trained, differ in {key!r}: if the former is right, run "
                f"`nnUNetv2_plan_and_preprocess -d {dataset}` again; else copy the latter there"
            )


def check_splits(folder: Path, fold: str, ending: str) -> tuple[str, ...]:
    """Check the fold of ``splits_final.json``; where it has no such fold, nnU-Net draws one itself.

    Args:
        folder: of the data set in ``nnUNet_preprocessed``.
        fold: number or ``"all"``.
        ending: of the data set's files.

    Returns:
        the cases of the fold; none: all that are there.

    Raises:
        InputError: the file is broken, or the fold is empty, trains on its validation cases, or has a case twice or an
            unknown one.
    """
    file = folder / SPLITS
    if not file.is_file():
        return ()
    splits = read_splits(file)
    if fold == "all" or int(fold) >= len(splits):
        return ()
    cases = splits[int(fold)]
    for what, names in {"train": cases.train, "val": cases.val}.items():
        if not names:
            raise InputError(f"{file}, fold {fold}: {what!r} is empty; write the splits again with `mmkd splits`")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"{file}, fold {fold}: {what!r} has {twice} twice; name it once")
    if both := sorted(set(cases.train) & set(cases.val)):
        raise InputError(f"{file}, fold {fold}: {both[0]} is a training case and a validation case; keep it in one")
    labels = folder / LABELS
    if labels.is_dir() and ending:
        known = set(list_images(labels, ending).stems)
        if known and (unknown := [name for name in (*cases.train, *cases.val) if name not in known]):
            raise InputError(
                f"{file}, fold {fold}: the data set has no case {unknown[0]!r} (none in {labels}); correct the name, "
                "or preprocess it"
            )
    return (*cases.train, *cases.val)


def check_enough_cases(folder: Path, ending: str, fold: str, dataset: str) -> None:
    """Check that there are five cases where there are no splits, since nnU-Net makes five folds then.

    Raises:
        InputError: there are fewer.
    """
    cases = [path for path in (folder / LABELS).glob(f"*{ending}") if not path.name.startswith(".")]
    if fold != "all" and cases and len(cases) < USUAL_FOLDS and not (folder / SPLITS).is_file():
        raise InputError(
            f"{folder} has {len(cases)} cases, and nnU-Net's default is {USUAL_FOLDS} folds: make fewer with "
            f"`mmkd splits patients -d {dataset} --folds {max(2, len(cases))}`, or train fold all"
        )
