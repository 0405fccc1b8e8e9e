"""A model card for the Hugging Face Hub, from what a model's folder knows. What it does not know, the card says.

The head is the Hub's metadata in YAML; reference: https://huggingface.co/docs/hub/model-cards. Of validation only what
``mmkd evaluate`` put into the folder (the performance card) is told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_mmkd import __version__
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.card import Expected, expected_scores, read_card
from nnunetv2_mmkd.evaluation.regions import evaluated_regions
from nnunetv2_mmkd.evaluation.subsets import choose_subsets
from nnunetv2_mmkd.files import TURN, locked, write_text
from nnunetv2_mmkd.inference.checkpoint_file import read_nnunet_checkpoint
from nnunetv2_mmkd.inference.model_check import check_loadable
from nnunetv2_mmkd.inference.model_folder import ModelDescription, TrainedModel, check_model, trained_folds
from nnunetv2_mmkd.names import channel_suffixes
from nnunetv2_mmkd.nnunet_json import read_object
from nnunetv2_mmkd.paths import ext_trainer_value
from nnunetv2_mmkd.trainer_catalogue import TrainerEntry, trainers_of

CHECKPOINT = "checkpoint_final.pth"
REPOSITORY_LICENCE = "unknown"
"""The Hub's word for a licence that nobody has stated."""

_FULL_LENGTH = 1000  # epochs of nnU-Net's own schedule
_MOST_ROWS = 31
_FEW = 30  # cases


@dataclass(frozen=True)
class CardFacts:
    """What a model's folder knows.

    Attributes:
        model: its files.
        description: trainer, configuration and folds.
        entry: what the trainer says about itself; None: it is not in our catalogue.
        epochs: fold -> epochs trained, where the checkpoint says so.
        training: fold -> ``mmkd_config.json``, where it exists.
        validated: folds with an entry in the performance card.
        scores: subset -> region -> validation Dice, pooled over these.
    """

    model: TrainedModel
    description: ModelDescription
    entry: TrainerEntry | None
    epochs: Mapping[str, int]
    training: Mapping[str, Mapping[str, Any]]
    validated: tuple[int | str, ...]
    scores: Mapping[str, Mapping[str, Expected]]


def write_model_card(
    folder: str,
    output: Path | None = None,
    *,
    folds: Sequence[int | str] = (),
    checkpoint: str = CHECKPOINT,
    licence: str = REPOSITORY_LICENCE,
    overwrite: bool = False,
) -> Path:
    """Write the card of a model.

    Args:
        folder: of the model.
        output: file; None: ``README.md`` in the folder, where the Hub looks for it.
        folds: that are shared; none: all that are trained.
        checkpoint: of them.
        licence: of the model, an identifier of the Hub's, such as ``apache-2.0``.
        overwrite: replace a file that exists.

    Returns:
        the file.

    Raises:
        InputError: no such model, it is damaged, no such licence identifier, or the file exists.
    """
    file = Path(folder, "README.md") if output is None else output
    _check_free(file, overwrite)
    if not re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", licence):
        raise InputError(
            f"--license {licence!r} is no identifier of the Hub: expected one such as apache-2.0, mit, cc-by-nc-4.0 "
            "or other (huggingface.co/docs/hub/repositories-licenses)"
        )
    text = model_card(card_facts(folder, folds, checkpoint), licence)
    with locked(file.parent, ".card", seconds=TURN):
        _check_free(file, overwrite)  # another run may have written it meanwhile
        write_text(file, text)
    return file


def _check_free(file: Path, overwrite: bool) -> None:
    if os.path.lexists(file) and not overwrite:
        raise InputError(f"{file} exists: --overwrite replaces it, -o names another file")


def card_facts(folder: str, folds: Sequence[int | str] = (), checkpoint: str = CHECKPOINT) -> CardFacts:
    """Read what a model's folder knows.

    Raises:
        InputError: no such model, or it is damaged.
    """
    chosen = list(folds) or trained_folds(folder, checkpoint)
    model = check_model(folder, chosen, checkpoint)
    description = check_loadable(folder, chosen, checkpoint)
    files = {str(fold): os.path.join(folder, f"fold_{fold}") for fold in chosen}
    epochs = {}
    for fold, place in files.items():
        value = read_nnunet_checkpoint(os.path.join(place, checkpoint), mmap=True).get("current_epoch")
        if isinstance(value, int):
            epochs[fold] = value
    configs = {fold: os.path.join(place, "mmkd_config.json") for fold, place in files.items()}
    card = read_card(model.dataset_json.content, os.path.join(folder, "dataset.json"))
    validated = tuple(fold for fold in chosen if str(fold) in card)
    scores = {}
    for name in choose_subsets(["all"], model.modalities):
        expected = expected_scores(card, validated, checkpoint, name)
        if expected:
            scores[name] = expected
    named = [
        entry
        for place in ext_trainer_value().split(os.pathsep)
        for entry in trainers_of(place)
        if description.trainer == entry.name or description.trainer.startswith(f"{entry.name}_")
    ]
    return CardFacts(
        model,
        description,
        max(named, key=lambda entry: len(entry.name), default=None),
        epochs,
        {fold: _training_facts(file, description.trainer) for fold, file in configs.items() if os.path.isfile(file)},
        validated if scores else (),
        scores,
    )


def _training_facts(file: str, trainer: str) -> dict[str, Any]:
    content = read_object(file)
    if content.get("trainer") != trainer or not isinstance(content.get("training_cases"), int):
        raise InputError(
            f"{file} is not what the training of {trainer} wrote: restore it (or delete it; the card then says less)"
        )
    return content


def model_card(facts: CardFacts, licence: str = REPOSITORY_LICENCE) -> str:
    """The text of a card: the YAML head between ``---``, then Markdown.

    Args:
        facts: see :func:`card_facts`.
        licence: of the model, an identifier of the Hub's.
    """
    head = yaml.safe_dump(card_head(facts, licence), sort_keys=False, allow_unicode=True, width=1000)
    sections = {
        "Use": _use(facts),
        "Intended use": _intended(facts),
        "Training data": _data(facts),
        "Training": _training(facts),
        "Performance": _performance(facts),
        "Limits": _limits(facts),
        "Licence and citation": _licence(facts, licence),
    }
    body = "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())
    return f"---\n{head}---\n\n# {_title(facts)}\n\n{_summary(facts)}\n{body}"


def card_head(facts: CardFacts, licence: str) -> dict[str, Any]:
    """The Hub's metadata; results are those of all modalities and the mean over all subsets that were validated."""
    content = facts.model.dataset_json.content
    edition = str(content.get("edition") or "")
    tags = ["nnunet", "nnunetv2", "medical", "image-segmentation", "missing-modalities", *facts.model.modalities]
    head: dict[str, Any] = {
        "license": licence,
        "library_name": "nnunetv2-mmkd",
        "pipeline_tag": "image-segmentation",
        "tags": list(dict.fromkeys([*tags, *([edition] if edition else [])])),
    }
    metrics = [
        {"type": "dice", "name": f"Dice {region}, {what}", "value": round(value, 4)}
        for what, row in _headline(facts).items()
        for region, value in row.items()
    ]
    if metrics:
        dataset = {"type": _slug(edition or _dataset(facts)), "name": _dataset(facts), "split": "validation"}
        task = {"type": "image-segmentation", "name": "Segmentation with any subset of the modalities"}
        head["metrics"] = ["dice"]
        head["model-index"] = [
            {"name": _slug(_title(facts)), "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}
        ]
    return head


def _headline(facts: CardFacts) -> dict[str, dict[str, float]]:
    """What the head tells: mean Dice by region, of all modalities and over all subsets."""
    full = "+".join(facts.model.subset or facts.model.modalities)
    rows = {}
    if full in facts.scores:
        rows["all modalities"] = {region: value.mean for region, value in facts.scores[full].items()}
    if len(facts.scores) > 1:
        regions = dict.fromkeys(region for row in facts.scores.values() for region in row)
        values = {region: [row[region].mean for row in facts.scores.values() if region in row] for region in regions}
        rows[f"mean over {len(facts.scores)} subsets"] = {name: sum(each) / len(each) for name, each in values.items()}
    return rows


def _dataset(facts: CardFacts) -> str:
    return str(facts.model.plans.content.get("dataset_name") or "unknown data set")


def _title(facts: CardFacts) -> str:
    return f"{_dataset(facts)}, {facts.description.trainer}, {facts.description.configuration}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _summary(facts: CardFacts) -> str:
    names = ", ".join(facts.model.modalities)
    takes = f"exactly {facts.model.takes}" if facts.model.subset else "any non-empty subset of these modalities"
    regions = ", ".join(evaluated_regions(facts.model.dataset_json.content))
    return (
        f"Segments {regions} in images of {names}. It takes {takes}. Trained with nnU-Net v2 and nnunetv2-mmkd, whose "
        f"version {__version__} wrote this card from the model's own files."
    )


def _use(facts: CardFacts) -> str:
    folds = " ".join(map(str, facts.description.folds))
    return (
        "With nnunetv2-mmkd installed; leave out the images that do not exist:\n\n```bash\n"
        f"mmkd predict -m MODEL_FOLDER -f {folds} -i IMAGES -o SEGMENTATIONS\n```\n\n"
        f"Images are named `CASE_XXXX{facts.model.dataset_json.file_ending}`: "
        + ", ".join(f"`_{number:04d}` {name}" for number, name in _channels(facts))
        + ".\n\nA checkpoint is a pickle: `mmkd predict` loads it without running code that is in it; the plain "
        "`nnUNetv2_predict` does not protect you."
    )


def _channels(facts: CardFacts) -> list[tuple[int, str]]:
    return list(zip(channel_suffixes(facts.model.dataset_json.content), facts.model.modalities, strict=True))


def _intended(facts: CardFacts) -> str:
    return (
        "Research, on images like those it was trained on: the same body part, disease, modalities and preprocessing "
        "(registration, skull stripping, voxel size). **It is not a medical device**; no decision about a patient may "
        "rest on it. Not for other diseases, for healthy people, or for children if it was trained on adults; nothing "
        "about these was tested."
    )


def _data(facts: CardFacts) -> str:
    content = facts.model.dataset_json.content
    missing = facts.model.dataset_json.missing
    counts = {name: sum(name in names for names in missing.values()) for name in facts.model.modalities}
    lacking = ", ".join(f"{name} in {count}" for name, count in counts.items() if count)
    spacing = facts.model.plans.content.get("original_median_spacing_after_transp")
    known = {
        "data set": _dataset(facts),
        "edition": content.get("edition"),
        "source": content.get("reference"),
        "terms": content.get("licence") or content.get("license"),
        "labelled cases": content.get("numTraining"),
        "cases that lack a modality": f"{len(missing)}: {lacking}" if missing else "none declared",
        "median voxel size, mm": " x ".join(f"{float(each):g}" for each in spacing) if spacing else None,
        "labels": ", ".join(f"{name} = {value}" for name, value in content["labels"].items()),
    }
    return _table(["", ""], [(key, _known(value)) for key, value in known.items()]) + (
        "\nAge, sex, scanners and sites of the patients are not known to the model's files."
    )


def _training(facts: CardFacts) -> str:
    plans, described = facts.model.plans.content, facts.description
    configuration = dict(PlansManager(plans).get_configuration(described.configuration).configuration)
    config: Mapping[str, Any] = next(iter(facts.training.values()), {})
    dropout = config.get("subset_law")
    known = {
        "trainer": f"`{described.trainer}`" + (f": {facts.entry.summary}" if facts.entry else ""),
        "paper": _paper(facts.entry),
        "modality dropout": f"{dropout.get('name')}, per {dropout.get('per')}"
        if isinstance(dropout, Mapping)
        else None,
        "plans, configuration": f"{plans.get('plans_name')}, {described.configuration}",
        "patch, batch": f"{configuration['patch_size']}, {configuration.get('batch_size')}",
        "voxel size of the network, mm": " x ".join(f"{float(each):g}" for each in configuration["spacing"]),
        "folds": " ".join(map(str, described.folds)),
        "epochs": ", ".join(f"fold {fold}: {count}" for fold, count in facts.epochs.items()) or None,
        "training cases": ", ".join(
            f"fold {fold}: {each.get('training_cases')}" for fold, each in facts.training.items()
        )
        or None,
    }
    return _table(["", ""], [(key, _known(value)) for key, value in known.items()])


def _paper(entry: TrainerEntry | None) -> str | None:
    """None: not known, as the trainer is not ours."""
    if entry is None:
        return None
    return f"[{entry.paper}]({entry.url})" if entry.url else entry.paper or "none"


def _performance(facts: CardFacts) -> str:
    if not facts.scores:
        return (
            "**Not known.** The model's folder has no performance card; `mmkd evaluate` measures all subsets on the "
            "validation cases and writes one."
        )
    shown = facts.scores
    if len(shown) > _MOST_ROWS:
        count = len(facts.model.modalities)
        shown = {name: row for name, row in shown.items() if name.count("+") + 1 in (1, count - 1, count)}
    regions = list(dict.fromkeys(region for row in shown.values() for region in row))
    rows = [(name, *(_cell(row.get(region)) for region in regions)) for name, row in shown.items()]
    for what, means in _headline(facts).items():
        if what.startswith("mean"):
            rows.append((f"**{what}**", *(f"{means[region]:.3f}" if region in means else "–" for region in regions)))
    cases = sorted({value.cases for row in shown.values() for value in row.values()})
    number = f"{cases[0]} to {cases[-1]}" if len(cases) > 1 else str(cases[0])
    folds = ", ".join(map(str, facts.validated))
    return (
        f"Dice in cross-validation, mean ± standard deviation over the cases ({number}), each predicted by the fold "
        f"that was not trained on it (folds {folds}).\n\n" + _table(["available", *regions], rows)
    ).rstrip("\n")


def _cell(value: Expected | None) -> str:
    if value is None:
        return "–"
    return f"{value.mean:.3f}" + ("" if value.sd != value.sd else f" ± {value.sd:.3f}")


def _limits(facts: CardFacts) -> str:
    lines = []
    if facts.scores:
        cases = min(value.cases for row in facts.scores.values() for value in row.values())
        if cases < _FEW:
            lines.append(f"Validated on {cases} cases only: other patients may fare very differently.")
        regions = dict.fromkeys(region for row in facts.scores.values() for region in row)
        for region in regions:
            means = {name: row[region].mean for name, row in facts.scores.items() if region in row}
            worst = min(means, key=lambda name: means[name])
            if len(means) > 1:
                lines.append(f"{region} is worst with {worst}: Dice {means[worst]:.2f}.")
        lines.append("Cross-validation is on the training data's own sites; no other site was tested.")
    else:
        lines.append("No validation is known to the model's files.")
    unvalidated = [str(fold) for fold in facts.description.folds if fold not in facts.validated]
    if facts.scores and unvalidated:
        lines.append(f"Not validated: fold {', '.join(unvalidated)}.")
    if any(count < _FULL_LENGTH for count in facts.epochs.values()):
        counts = sorted(set(facts.epochs.values()))
        lines.append(f"Trained for {', '.join(map(str, counts))} epochs; nnU-Net's own schedule has {_FULL_LENGTH}.")
    if not facts.model.subset:
        lines.append(
            "Fewer modalities give worse segmentations. Nothing in them shows it; `--uncertainty` gives a hint."
        )
    lines.append("Images that are not preprocessed as the training data were are not recognised as such.")
    return "\n".join(f"- {line}" for line in lines)


def _licence(facts: CardFacts, licence: str) -> str:
    content = facts.model.dataset_json.content
    stated = f"This model: {licence}." if licence != REPOSITORY_LICENCE else "The model's licence is not stated."
    named = content.get("citation") or []
    cited = [named] if isinstance(named, str) else list(map(str, named))
    cited.append("Isensee et al., Nature Methods 2021, doi:10.1038/s41592-020-01008-z (nnU-Net)")
    if facts.entry and facts.entry.paper:
        cited.append(f"{facts.entry.paper}{f', {facts.entry.url}' if facts.entry.url else ''}")
    return f"{stated} The terms of the training data hold besides. Cite:\n\n" + "\n".join(f"- {each}" for each in cited)


def _known(value: Any) -> str:
    return "not known" if value in (None, "") else str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [header, ["---"] * len(header), *rows]
    lines = [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in cells
    ]
    return "\n".join(lines) + "\n"
