"""What an edition of a challenge is, as data: the one thing to write to add an edition.

Nothing here reads a file. The converter (:mod:`.convert`) and the submission writer
(:mod:`nnunetv2_mmkd.submission`) take everything edition-specific from an :class:`EditionSpec`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.label_names import Meanings, label_meanings

LABEL_STYLES = ("regions", "classes")
"""How ``dataset.json`` declares the labels: overlapping regions (BraTS) or exclusive classes."""

OWN_LAYOUTS = ("template", "bids")
LAYOUTS = ("folders", "files", *OWN_LAYOUTS)
"""A case is a folder of files (BraTS), or the files of one beginning in whatever folders (MyoPS); a user's own editions
have templates of paths, or BIDS."""


@dataclass(frozen=True)
class Channel:
    """One modality of an edition.

    Attributes:
        name: canonical name (:func:`nnunetv2_mmkd.modalities.canonical`), e.g. ``"t1ce"``.
        display: name in ``dataset.json["channel_names"]``, e.g. ``"T1ce"``. nnU-Net chooses the normalisation by it.
        suffixes: what follows ``<case>_`` or ``<case>-`` in file names, any case; in the layout ``"template"`` what
            stands for ``{modality}``, in ``"bids"`` entities and suffix.
    """

    name: str
    display: str
    suffixes: tuple[str, ...]


@dataclass(frozen=True)
class Platform:
    """What the platform that scores an edition demands of a submission, besides the labels.

    Attributes:
        name: what the user reads.
        archives: endings of the archives it takes, the usual one first.
        id_pattern: regular expression, looked for in the end of a file name; its group is the case's id. Empty: the
            whole name has to be right.
        grid: shape that all files must have.
        qform: rows of a matrix; a file whose qform that is may have another shape than ``grid``.
    """

    name: str
    archives: tuple[str, ...] = (".zip",)
    id_pattern: str = ""
    grid: tuple[int, int, int] | None = None
    qform: tuple[tuple[float, ...], ...] | None = None

    def key(self, file_name: str) -> str | None:
        """What the platform knows a file by; None: it does not accept the name."""
        if not self.id_pattern or "/" in file_name:
            return file_name
        match = re.search(rf"{self.id_pattern}$", file_name)
        return None if match is None else match.group(1)


@dataclass(frozen=True)
class Archive:
    """How the archives of an edition look when they are unpacked: what a phantom of it is written as.

    Attributes:
        training: path of a training case; ``{number}`` counts patients (``{number:03d}`` with zeros before) and
            ``{visit}`` the time points of one. In the layout ``"files"`` the last part is only what file names begin
            with.
        validation: the same for a case without label.
        endings: of the files, after the case's name: the channels' in their order, then the label's.
        extension: ``.nii.gz`` or ``.nii``.
        label_folder: where a label lies, relative to the other files.
        first: number of the first training and of the first validation patient; no case may have the other's name.
        visits: time points of a patient.
        sites: columns of the edition's table of institutions, in their order.
    """

    training: str
    validation: str
    endings: tuple[str, ...]
    extension: str = ".nii.gz"
    label_folder: str = "."
    first: tuple[int, int] = (1, 1)
    visits: int = 1
    sites: tuple[str, ...] = ("Subject_ID", "Partition_ID")

    def path(self, index: int, label: bool) -> str:
        """Path of the case of an index from 0, with a label or without."""
        pattern, first = (self.training, self.first[0]) if label else (self.validation, self.first[1])
        return pattern.format(number=first + index // self.visits, visit=index % self.visits)

    def case(self, index: int, label: bool) -> str:
        """Name of the case of an index from 0."""
        return self.path(index, label).rsplit("/", 1)[-1]


@dataclass(frozen=True)
class EditionSpec:
    """One edition of a challenge.

    Attributes:
        name: what the user types, e.g. ``"brats2018"``.
        title: what the user reads, e.g. ``"BraTS 2018"``.
        dataset_id: default number of the nnU-Net data set.
        dataset_name: default name, without ``DatasetXXX_``.
        case_pattern: regular expression that a case's name matches as a whole. The name is that of the case's
            directory, or, in the layout ``"files"``, the file names' up to the suffix.
        channels: modalities in channel order.
        layout: one of :data:`LAYOUTS`.
        label_suffixes: as a channel's suffixes, for the segmentation; in the layout ``"folders"`` what its name holds.
            ``""`` in the layout ``"files"``: it is named as the case.
        image_template: path of an image below the source folder (layout ``"template"``; :mod:`.templates`).
        label_template: the same of a segmentation; in the layout ``"bids"`` its entities and suffix. Empty: there are
            none.
        label_folder: regular expression, looked for in the name of the folder of a file; elsewhere nothing is a label
            (layout ``"files"``). Empty: any folder.
        corrections: regular expression for the name of a folder of labels that replace those next to the images
            (layout ``"folders"``).
        passed_over: regular expression for the name of a folder below the source whose cases are others', or other
            versions, and are not taken (layout ``"folders"``).
        stacked: one 4-D file a case, named as it, holds all images in channel order (layout ``"files"``).
        onto: channel onto whose grid images on other grids are resampled, see :mod:`nnunetv2_mmkd.conversion.resample`;
            the label lies on it. Empty: other grids are refused.
        grid: shape of all its images, or None where it varies. It tells editions apart; converting works on any grid.
        label_map: value on disk -> value in nnU-Net (consecutive, 0 stays 0).
        slips: further value that occurs on disk -> value that is meant; it is said where one is found.
        regions: region name -> nnU-Net values it contains, large regions first.
        also_scored: regions that the challenge scores and no head predicts (non-enhancing core, edema alone).
        regions_class_order: nnU-Net value that each region paints, in the order of ``regions``.
        classes: class name -> nnU-Net value, without background.
        configuration: nnU-Net's configuration to begin with, where it is not ``3d_fullres``.
        patient_pattern: regular expression for the start of a case's name that names the patient.
        sibling_pattern: what a case's name matches besides ``case_pattern`` where other editions share that; it only
            tells editions apart (:mod:`.recognise`).
        folder_pattern: what the name of a folder above the cases holds; it only tells editions apart.
        repeats: editions whose data these are, too; :mod:`.recognise` takes those where no folder says otherwise.
        submission_name: file name in a submission; ``{case}`` is the case's name.
        submission_labels: nnU-Net value -> value in a submission; default: ``label_map`` turned round.
        submission_dtype: voxel type in a submission.
        platform: what is demanded of a submission.
        lesion_task: name of its lesion-wise scores, which ``mmkd evaluate`` then shows unasked.
        uncertainty: ending of a map of uncertainty -> its region, where the challenge takes such maps.
        sites_file: name of the table that says which institution a case is from (columns ``Subject_ID`` and
            ``Partition_ID``), where the archives hold one.
        archive: what the archives look like, for phantoms; None: there is no phantom of this edition.
        reference: where the data come from.
        licence: terms of use.
        citation: what to cite.
        notes: facts that rest on little evidence, and what that means for the user.

    Raises:
        InputError: the spec contradicts itself.
    """

    name: str
    title: str
    dataset_id: int
    dataset_name: str
    case_pattern: str
    channels: tuple[Channel, ...]
    label_map: Mapping[int, int]
    regions: Mapping[str, tuple[int, ...]]
    regions_class_order: tuple[int, ...]
    classes: Mapping[str, int]
    also_scored: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    layout: str = "folders"
    label_suffixes: tuple[str, ...] = ("seg",)
    image_template: str = ""
    label_template: str = ""
    label_folder: str = ""
    corrections: str = r"(?!)"
    passed_over: str = r"(?!)"
    stacked: bool = False
    onto: str = ""
    slips: Mapping[int, int] = field(default_factory=dict)
    grid: tuple[int, int, int] | None = None
    configuration: str = "3d_fullres"
    patient_pattern: str = r".+"
    sibling_pattern: str = r".+"
    folder_pattern: str = r"(?!)"
    repeats: tuple[str, ...] = ()
    submission_name: str = "{case}.nii.gz"
    submission_labels: Mapping[int, int] | None = None
    submission_dtype: str = "uint8"
    platform: Platform = Platform("the organisers")
    lesion_task: str = ""
    uncertainty: Mapping[str, str] = field(default_factory=dict)
    sites_file: str = ""
    archive: Archive | None = None
    reference: str = ""
    licence: str = ""
    citation: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def require(condition: bool, what: str) -> None:
            if not condition:
                raise InputError(f"edition {self.name!r}: {what}")

        values = sorted(set(self.label_map.values()))
        foreground = values[1:]
        suffixes = [suffix.lower() for channel in self.channels for suffix in channel.suffixes]
        suffixes += [suffix.lower() for suffix in self.label_suffixes if suffix]
        require(self.layout in LAYOUTS, f"layout {self.layout!r}: choose from {', '.join(LAYOUTS)}")
        require(self.label_map.get(0) == 0, "label_map must map background 0 to 0")
        require(values == list(range(len(values))), f"label_map must lead to consecutive values, not {values}")
        require(len(set(suffixes)) == len(suffixes), "a file suffix stands for two things")
        require(len({channel.name for channel in self.channels}) == len(self.channels), "two channels of one name")
        require(not self.onto or self.onto in {channel.name for channel in self.channels}, "onto must name a channel")
        require("" not in self.label_suffixes or self.label_folder != "", "label_suffixes '' needs label_folder")
        require(set(self.slips.values()) <= set(self.label_map), "slips must lead to values of label_map")
        require(not set(self.slips) & set(self.label_map), "slips must be other values than those of label_map")
        require(sorted(self.classes.values()) == foreground, f"classes must name each of {foreground} once")
        if self.regions:
            inside = {value for region in self.regions.values() for value in region}
            require(inside == set(foreground), f"regions must be made of the values {foreground}")
            require(len(self.regions_class_order) == len(self.regions), "regions_class_order: one value per region")
            swapped = {value: self.decoded(value) for value in values if self.decoded(value) != value}
            require(not swapped, f"regions and regions_class_order turn labels into others: {swapped}")
        extra = {value for region in self.also_scored.values() for value in region}
        require(extra <= set(foreground), f"also_scored must be made of the values {foreground}")
        require(not set(self.also_scored) & set(self.regions), "also_scored repeats a region")
        for pattern in (
            *(self.case_pattern, self.patient_pattern, self.sibling_pattern, self.folder_pattern),
            *(self.label_folder, self.corrections, self.passed_over),
        ):
            try:
                re.compile(pattern)
            except re.error as error:
                require(False, f"{pattern!r} is no regular expression: {error}")
        require(set(self.uncertainty.values()) <= set(self.regions), "uncertainty must name regions")
        if self.archive is not None:
            names = [self.archive.case(0, label) for label in (True, False)]
            require(
                all(map(self.is_case, names)), f"archive: {names} do not match case_pattern; give the edition's own"
            )
            require(names[0] != names[1], "archive: a training and a validation case have one name; give other `first`")
            expected = len(self.channels) + 1
            require(
                len(self.archive.endings) == expected, f"archive: {expected} endings, the channels' and the label's"
            )
        if self.submission_labels is None:
            require(len(values) == len(self.label_map), "label_map is not one to one: give submission_labels")
        else:
            require(sorted(self.submission_labels) == values, f"submission_labels must map each of {values}")

    @property
    def has_own_layout(self) -> bool:
        """Whether it is a user's own edition (:mod:`.custom`)."""
        return self.layout in OWN_LAYOUTS

    @property
    def default_labels(self) -> str:
        """Its label style where nobody says otherwise."""
        return "regions" if self.regions else "classes"

    @property
    def allowed_labels(self) -> tuple[int, ...]:
        """Label values that may stand on disk, ascending; without slips."""
        return tuple(sorted(self.label_map))

    def is_case(self, name: str) -> bool:
        """Whether this is the name of a case."""
        return re.fullmatch(self.case_pattern, name) is not None

    def split_stem(self, stem: str, folder: str = "") -> tuple[str, int] | None:
        """Case and index of a file's stem, layout ``"files"``.

        Args:
            stem: name of the file without its ending.
            folder: name of its folder.

        Returns:
            the case, and the index of the channel (0 if one file holds all); after the channels' the label's.
        """
        kinds = [("",)] if self.stacked else [channel.suffixes for channel in self.channels]
        ends = dict(enumerate(kinds))
        if re.search(self.label_folder, folder):
            ends = {} if self.stacked else ends
            ends[len(self.channels)] = self.label_suffixes
        for index, suffixes in ends.items():
            words = "|".join(f"[_-]{re.escape(suffix)}" if suffix else "" for suffix in suffixes)
            match = re.fullmatch(rf"(?P<case>.+)(?i:{words})", stem)
            if match is not None and self.is_case(match["case"]):
                return match["case"], index
        return None

    def patient(self, case: str) -> str:
        """The patient a case belongs to; cases of one patient belong on one side of a split."""
        match = re.match(self.patient_pattern, case)
        return case if match is None else match.group()

    def decoded(self, value: int) -> int:
        """What nnU-Net makes of a voxel of this value: each region it is in paints it, in their order."""
        painted = 0
        for region, paint in zip(self.regions.values(), self.regions_class_order, strict=True):
            painted = paint if value in region else painted
        return painted

    def to_edition(self) -> dict[int, int]:
        """nnU-Net value -> value on disk (the smallest, where several were merged)."""
        return {value: on_disk for on_disk, value in sorted(self.label_map.items(), reverse=True)}

    def to_submission(self) -> dict[int, int]:
        """nnU-Net value -> value in a submission."""
        if self.submission_labels is not None:
            return dict(self.submission_labels)
        return self.to_edition()

    def label_meanings(self) -> Meanings:
        """Every name of classes and regions -> nnU-Net values, to be compared with those of a ``dataset.json``."""
        return label_meanings({**self.classes, **self.also_scored, **self.regions})

    def channel_names(self) -> dict[str, str]:
        """``dataset.json["channel_names"]``."""
        return {str(index): channel.display for index, channel in enumerate(self.channels)}

    def dataset_labels(self, style: str) -> tuple[dict[str, int | list[int]], tuple[int, ...] | None]:
        """``dataset.json["labels"]`` and ``["regions_class_order"]`` (None for classes).

        Args:
            style: one of :data:`LABEL_STYLES`.

        Raises:
            InputError: an unknown style, or one that the edition does not have.
        """
        if style not in LABEL_STYLES:
            raise InputError(f"--labels {style!r} is unknown: choose from {', '.join(LABEL_STYLES)}")
        labels: dict[str, int | list[int]] = {"background": 0}
        if style == "classes":
            return labels | dict(self.classes), None
        if not self.regions:
            raise InputError(f"{self.title} defines no regions: use --labels classes")
        return labels | {name: list(values) for name, values in self.regions.items()}, self.regions_class_order
