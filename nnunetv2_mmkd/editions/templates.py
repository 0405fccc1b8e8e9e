"""Templates of paths: where the images and segmentations of a user's own data set are.

``"{case}/{case}_{modality}.nii.gz"`` is relative to the source folder. ``{case}`` names the case; ``{patient}`` and
``{session}`` do so together, for patients with several visits; ``*`` is anything within a name. A placeholder that
stands twice has the same text in both places. Letter case does not matter, nor whether a NIfTI file is compressed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnunetv2_mmkd.editions.reading import Reading
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError, choices
from nnunetv2_mmkd.images import stem_of

NAMING = ("patient", "session", "case")
"""Placeholders that a case's name is made of, in this order."""
MODALITY = "modality"


@dataclass(frozen=True)
class Template:
    """A template of paths.

    Attributes:
        text: as the user writes it.
        words: what stands for ``{modality}``, for each channel; empty for segmentations.

    Raises:
        InputError: an unknown placeholder or braces that do not match, none that names the case, ``{modality}`` where
            it does not belong or none where it does, a path that leaves the source folder, or no NIfTI file.
    """

    text: str
    words: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        def require(condition: bool, what: str) -> None:
            if not condition:
                raise InputError(f"template {self.text!r}: {what}")

        parts = self.text.split("/")
        require(
            bool(self.text) and "\\" not in self.text and not {"", ".", ".."} & set(parts),
            "expected a path below the source folder, with / between names",
        )
        known = (*NAMING, MODALITY) if self.words else NAMING
        for name in self.placeholders:
            require(name in known, f"{{{name}}} is no placeholder here: choose from {choices(name, known)}")
        require(not set(re.sub(r"\{\w*\}", "", self.text)) & set("{}"), "its braces do not match")
        require(
            bool({"case", "patient"} & set(self.placeholders)), "nothing names the case: put {case} where it stands"
        )
        require(
            not self.words or MODALITY in self.placeholders,
            "nothing says which modality an image is of: put {modality} where its name stands",
        )
        require(stem_of(parts[-1]) is not None, "expected the name of an image file, which ends in .nii.gz, say")

    @property
    def placeholders(self) -> list[str]:
        """Their names, in order."""
        return re.findall(r"\{(\w*)\}", self.text)

    @cached_property
    def any_modality(self) -> re.Pattern[str]:
        """The template for whatever stands for the modality."""
        return self._pattern(r"[^/]+?")

    @cached_property
    def _patterns(self) -> list[tuple[int, re.Pattern[str]]]:
        """Index and pattern of each word, long words first: ``post_t1`` before ``t1``."""
        words = [(word, index) for index, words in enumerate(self.words) for word in words]
        longest = sorted(words, key=lambda each: -len(each[0]))
        return [(index, self._pattern(re.escape(word))) for word, index in longest] or [(0, self._pattern("(?!)"))]

    def _pattern(self, modality: str) -> re.Pattern[str]:
        parts, seen = [], set()
        for part in re.split(r"(\{\w*\}|\*)", self.text):
            name = part[1:-1]
            if part == "*":
                parts.append("[^/]*")
            elif not part.startswith("{"):
                parts.append(re.escape(part))
            elif name in seen:
                parts.append(f"(?P={name})")
            else:
                seen.add(name)
                parts.append(f"(?P<{name}>{modality if name == MODALITY else '[^/]+?'})")
        return re.compile(re.sub(r"\\\.nii(\\\.gz)?$", r"\\.nii(\\.gz)?", "".join(parts)), re.IGNORECASE)

    def read(self, relative: str) -> tuple[re.Match[str], int] | None:
        """The match of a relative path and its channel (0 for a segmentation); None: it is none."""
        for index, pattern in self._patterns:
            match = pattern.fullmatch(relative)
            if match is not None:
                return match, index
        return None


def templates_of(spec: EditionSpec) -> tuple[Template, Template | None]:
    """Of images and of segmentations.

    Raises:
        InputError: as :class:`Template`.
    """
    label = Template(spec.label_template) if spec.label_template else None
    return Template(spec.image_template, tuple(channel.suffixes for channel in spec.channels)), label


def template_reader(spec: EditionSpec) -> Callable[[Path, Path], Reading | None]:
    """What a file below a source folder is by the templates of an edition; None: nothing that they describe.

    Raises:
        InputError: as :class:`Template`.
    """
    images, labels = templates_of(spec)

    def read(root: Path, path: Path) -> Reading | None:
        relative = path.relative_to(root).as_posix()
        for template, offset in ((images, 0), (labels, len(spec.channels))):
            found = None if template is None else template.read(relative)
            if found is not None:
                match, index = found
                named = match.groupdict()
                case = "_".join(named[name] for name in NAMING if named.get(name))
                return Reading(path, case, index + offset, named.get("patient"))
        return None

    return read
