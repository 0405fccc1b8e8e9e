"""Which of several models predicts a case: the specialist for exactly what it has, else the model for any subset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.inference.cases import Case
from nnunetv2_mmkd.inference.model_folder import TrainedModel, check_model


def read_models(folders: Sequence[str], folds: Sequence[int | str], checkpoint: str) -> tuple[TrainedModel, ...]:
    """Read the models' files and see that they can stand in for each other.

    Args:
        folders: at least one.
        folds: of each of them.
        checkpoint: of each of them.

    Raises:
        InputError: a file of a model does not exist, a model is not one of ours, two are for the same subset, or they
            disagree about channels, labels, regions or file ending.
    """
    found = [check_model(folder, folds, checkpoint) for folder in folders]
    first = found[0]
    for index, each in enumerate(found):
        for what, mine, theirs in _differences(first, each):
            raise InputError(
                f"{first.folder} and {each.folder} cannot predict side by side: the {what} of the one are {mine}, of "
                f"the other {theirs}. Give models that were trained on the same channels and labels"
            )
        twin = next((other for other in found[:index] if other.subset == each.subset), None)
        if twin is not None:
            raise InputError(f"{twin.folder} and {each.folder} are both for {each.takes}: give one of them")
    return tuple(found)


def _differences(first: TrainedModel, other: TrainedModel) -> list[tuple[str, Any, Any]]:
    def facts(each: TrainedModel) -> dict[str, Any]:
        dataset = each.dataset_json.content
        return {
            "channels": list(each.modalities),
            "labels": list(dataset["labels"].items()),  # in order: it says what comes before what in the regions
            "regions": dataset.get("regions_class_order"),
            "file endings": dataset["file_ending"],
        }

    mine, theirs = facts(first), facts(other)
    return [(what, mine[what], theirs[what]) for what in mine if mine[what] != theirs[what]]


def choose(cases: Sequence[Case], models: Sequence[TrainedModel]) -> dict[str, TrainedModel]:
    """The model of each case: that for exactly the modalities that it has, else that for any subset.

    Returns:
        Name of the case -> its model.

    Raises:
        InputError: a case has no model.
    """
    by_subset = {each.subset: each for each in models}
    found = {case.identifier: by_subset.get(case.used, by_subset.get(())) for case in cases}
    without = [case for case in cases if found[case.identifier] is None]
    if without:
        case, more = without[0], len(without) - 1
        raise InputError(
            f"case {case.identifier} has {' + '.join(case.used)}{f' ({more} more have no model, too)' * bool(more)}: "
            f"none of the models is for exactly that (they are for {', '.join(each.takes for each in models)}). "
            "Add a model for any subset to --models (or by -d, -c and -tr), or a specialist for it"
        )
    return {case: each for case, each in found.items() if each is not None}
