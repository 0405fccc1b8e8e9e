"""A user's own data set as an :class:`~.spec.EditionSpec`: from the options of ``mmkd convert custom``, or a YAML file.

The file has the names of the options as keys (:class:`Definition`)::

    name: clinic
    images: "{case}/{case}_{modality}.nii.gz"
    labels: "{case}/{case}_mask.nii.gz"
    modalities: {T1: t1, T1ce: [t1ce, t1_gd], FLAIR: flair}
    label: {edema: 1, core: 2}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from nnunetv2_mmkd.editions.bids import SUFFIXES
from nnunetv2_mmkd.editions.custom_labels import label_scheme
from nnunetv2_mmkd.editions.spec import Channel, EditionSpec
from nnunetv2_mmkd.editions.spellings import Words, words_of
from nnunetv2_mmkd.editions.templates import templates_of
from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.names import ALIASES, canonical
from nnunetv2_mmkd.yaml_file import read_yaml

CUSTOM = "custom"
"""The name of an edition that is given by options."""
ENDINGS = (".yaml", ".yml")
"""What the names of files with an edition end in."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Definition:
    """A user's own data set.

    Attributes:
        name: of the edition: letters, digits, ``_``, ``-`` and ``.``.
        images: template of the images' paths (:mod:`.templates`).
        labels: template of the segmentations' paths; with ``bids`` entities and suffix, e.g. ``dseg``. Empty: none.
        modalities: name in ``dataset.json`` -> what stands for ``{modality}``; with ``bids`` entities and suffix.
            Nothing: the usual spellings of that modality. nnU-Net chooses the normalisation by the name.
        label: name -> values in the segmentations; see :mod:`.custom_labels`.
        bids: the images are in BIDS, and ``images`` is empty.
        title: what the user reads.
        dataset_id, dataset_name: of the nnU-Net data set, where the command does not say.
        patient_pattern: regular expression for the start of a case's name that names the patient.
        configuration: nnU-Net's configuration to begin with.
        submission_name: file name in a submission (``mmkd submit``).
        reference, licence: for ``dataset.json``.
    """

    name: str = CUSTOM
    images: str = ""
    labels: str = ""
    modalities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    label: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    bids: bool = False
    title: str = ""
    dataset_id: int = 0
    dataset_name: str = ""
    patient_pattern: str = r".+"
    configuration: str = "3d_fullres"
    submission_name: str = "{case}.nii.gz"
    reference: str = ""
    licence: str = ""

    def edition(self) -> EditionSpec:
        """The edition.

        Raises:
            InputError: something is missing or contradicts itself.
        """

        def require(condition: bool, what: str) -> None:
            if not condition:
                raise InputError(what)

        require(_NAME.fullmatch(self.name) is not None, f"name {self.name!r}: use letters, digits, '_', '-' and '.'")
        require(bool(self.modalities), "name the modalities, e.g. --modalities T1=t1 T1ce=t1c,t1gd FLAIR")
        require(
            bool(self.images) != self.bids,
            "say where the images are: --images '{case}/{case}_{modality}.nii.gz', or --bids; not both",
        )
        require(not self.labels or bool(self.label), "--labels without --label: name the values, e.g. --label tumour=1")
        channels = tuple(
            Channel(canonical(display), display, words or self._usual(display))
            for display, words in self.modalities.items()
        )
        scheme = label_scheme(self.label)
        dataset_name = self.dataset_name or re.sub(
            r"[^A-Za-z0-9]", "", self.name.title() if self.name.islower() else self.name
        )
        spec = EditionSpec(
            name=self.name,
            title=self.title or self.name,
            dataset_id=self.dataset_id,
            dataset_name=dataset_name or "Custom",
            case_pattern=r".+",
            layout="bids" if self.bids else "template",
            channels=channels,
            label_suffixes=(),
            image_template=self.images,
            label_template=self.labels,
            label_map=scheme.label_map,
            classes=scheme.classes,
            regions=scheme.regions,
            regions_class_order=scheme.regions_class_order,
            submission_labels=scheme.submission_labels,
            patient_pattern=r"sub-[A-Za-z0-9+.]+"
            if self.bids and self.patient_pattern == r".+"
            else self.patient_pattern,
            configuration=self.configuration,
            submission_name=self.submission_name,
            reference=self.reference,
            licence=self.licence,
        )
        if not self.bids:
            templates_of(spec)
        elif "{" in self.labels:
            raise InputError(
                f"--labels {self.labels!r}: with --bids give entities and suffix, e.g. dseg or label-lesion_mask"
            )
        return spec

    def as_yaml(self) -> str:
        """The same as the content of a file that :func:`read_edition` reads."""
        given = {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }
        for key in ("modalities", "label"):
            given[key] = {name: list(of) for name, of in given[key].items()}
        text: str = yaml.safe_dump(given, sort_keys=False, allow_unicode=True)
        return text

    def _usual(self, display: str) -> tuple[str, ...]:
        """How a modality is spelled where the user does not say."""
        name = canonical(display)
        if self.bids:
            return SUFFIXES.get(name, (display,))
        return tuple(dict.fromkeys((name, display.lower(), *(alias for alias, of in ALIASES.items() if of == name))))


def parse_modalities(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``["T1=t1", "T1ce=t1c,t1gd", "FLAIR"]`` -> name -> spellings.

    Raises:
        InputError: a name is empty or given twice; a spelling has no letter or figure, or stands for two.
    """
    found: dict[str, tuple[str, ...]] = {}
    taken: dict[Words, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        _take(found, name, tuple(text.split(",")) if equals else (), f"--modalities {word}", "T1ce=t1c,t1gd")
        for spelling in text.split(",") if equals else ():
            if "=" in spelling or not any(map(str.isalnum, spelling)):
                raise InputError(f"--modalities {word}: {spelling!r} is no word of a file name, as in T1ce=t1c,t1gd")
            if taken.setdefault(words_of(spelling), name) != name:
                first = taken[words_of(spelling)]
                raise InputError(f"--modalities: {spelling.strip()!r} stands for {first} and for {name}; take one out")
    return found


def parse_labels(words: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """``["WT=1,2,3", "ET=3"]`` -> name -> values.

    Raises:
        InputError: no name, one that is given twice, or a value that is no whole number.
    """
    found: dict[str, tuple[int, ...]] = {}
    for word in words:
        name, _, text = word.partition("=")
        values = [value.strip() for value in text.split(",")]
        if not all(re.fullmatch(r"\d{1,10}", value) for value in values):
            raise InputError(f"--label {word!r}: expected NAME=VALUE or NAME=VALUE,VALUE, e.g. WT=1,2,3")
        _take(found, name, tuple(map(int, values)), f"--label {word}", "WT=1,2,3")
    return found


def _take(found: dict[str, Any], name: str, values: tuple[Any, ...], where: str, example: str) -> None:
    if not name.strip() or not name.isprintable() or not all(str(value).strip() for value in values):
        raise InputError(f"{where}: expected a name and what it stands for, e.g. {example}")
    if name.strip() in found:
        raise InputError(f"{where}: {name.strip()} is given twice")
    found[name.strip()] = tuple(value.strip() if isinstance(value, str) else value for value in values)


def read_edition(file: Path) -> EditionSpec:
    """The edition in a YAML file.

    Raises:
        InputError: it cannot be read, has an unknown key or one twice, lacks one, or holds a value of the wrong kind;
            the message names file and key.
    """
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: the file is no table of keys and values; expected name, images, modalities, ...")
    known = {each.name: each.default for each in fields(Definition)}
    given: dict[str, Any] = {"name": re.sub(r"[^A-Za-z0-9._-]", "_", file.stem)}
    try:
        for key, value in content.items():
            if key not in known:
                raise InputError(f"{key!r} is no key of an edition: choose from {choices(str(key), known)}")
            given[key] = _value(key, value, known[key])
        return Definition(**given).edition()
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _value(key: str, value: Any, default: Any) -> Any:
    """A value of the file as :class:`Definition` takes it."""
    if key in ("modalities", "label"):
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise InputError(f"{key} is {value!r}: expected names and what they stand for, e.g. {{T1: t1}}")
        kind = int if key == "label" else str
        lists = {
            name: each if isinstance(each, list) else [] if each is None else [each] for name, each in value.items()
        }
        for name, each in lists.items():
            if not all(type(entry) is kind for entry in each) or (kind is int and not each):
                expected = "a whole number or a list of them" if kind is int else "text or a list of texts"
                raise InputError(f"{key}: {name} is {value[name]!r}: expected {expected}")
        found: dict[str, Any] = {}
        for name, each in lists.items():
            _take(found, name, tuple(each), f"{key}: {name}", "T1ce: [t1c, t1gd]")
        return found
    if type(value) is not type(default):
        raise InputError(
            f"{key} is {value!r}: expected {'text' if isinstance(default, str) else type(default).__name__}"
        )
    if key == "dataset_id" and not 1 <= value <= 999:
        raise InputError(f"dataset_id is {value}: expected a number from 1 to 999")
    return value
