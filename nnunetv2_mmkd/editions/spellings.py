"""How hospitals and challenges spell modalities in names of files, and what such a name says.

A name is a row of words: ``patient7_T1_post.nii.gz`` is ``patient7``, ``t1``, ``post``. The longest row of words that
spells a modality is it; what is left names the case. Where a name spells two, or T1 with a word for contrast agents
elsewhere, nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.names import ALIASES, canonical

Words = tuple[str, ...]

CONTRAST = ("ce", "gd", "gad", "gado", "gadolinium", "contrast", "km", "enhanced")
"""Words for a contrast agent."""
_AFTER_T1 = (
    *CONTRAST,
    "c",
    "cm",
    "post",
    "postcontrast",
    "postgad",
    "post contrast",
    "post gd",
    "post gad",
    "with contrast",
)
_T1 = ("t1", "t1w", "t1wi")
_PLAIN = (
    *("pre", "native", "nativ", "plain", "unenhanced", "noncontrast", "precontrast"),
    *("pre contrast", "pre gd", "pre gad", "non contrast", "no contrast", "without contrast"),
)
_SUBTRACTED = {"sub", "subtr", "subtracted", "subtraction"}
_DOUBTFUL = {*CONTRAST, "post", "postcontrast", "postgad", "cm"}
"""Words that make a T1 elsewhere in the name doubtful."""

USUAL: Mapping[str, tuple[str, ...]] = {
    "t1": (*_T1, *(f"{t1} {word}" for t1 in _T1 for word in _PLAIN), *(f"{t1}{word}" for t1 in _T1 for word in _PLAIN)),
    "t1ce": (
        *(f"{t1} {word}" for t1 in _T1 for word in _AFTER_T1),
        *(f"{t1}{word}" for t1 in _T1 for word in _AFTER_T1),
        *(f"{word} {t1}" for t1 in _T1 for word in (*CONTRAST, "post contrast", "postcontrast", "gd enhanced")),
        *(f"{word}{t1}" for t1 in _T1 for word in ("ce", "gd")),
    ),
    "t2": ("t2", "t2w", "t2wi"),
    "flair": ("flair", "t2flair", "t2 flair", "t2w flair", "flair t2", "t2fl", "t2f", "dark fluid", "darkfluid"),
    "dwi": ("dwi",),
    "adc": ("adc",),
    "swi": ("swi",),
}
"""Modality -> its spellings, words apart."""

_DARK_FLUID = {("dark", "fluid"), ("darkfluid",)}
"""A FLAIR also where the name says T2 elsewhere, as in ``t2_tirm_tra_dark-fluid``."""

SEGMENTATION = {"seg", "segmentation", "mask", "masks", "msk", "label", "labels", "dseg", "roi", "gt", "brainmask"}
"""Words in the names of what is no image."""

_OF_VOLUME = re.compile(r"^[23]d(?=t[12]|flair)")
_WORD = re.compile(r"[^\s_.+\-]+")


def words_of(text: str) -> Words:
    """The words of a name, in lower case; ``3DT1`` is ``t1``."""
    return tuple(_OF_VOLUME.sub("", match.group().casefold()) for match in _WORD.finditer(text))


def rows_of(words: Words) -> set[Words]:
    """All rows of neighbouring words."""
    return {words[i:j] for i in range(len(words)) for j in range(i + 1, len(words) + 1)}


@dataclass(frozen=True)
class NameReading:
    """What a name says.

    Attributes:
        modality: canonical name; empty: none, or it cannot be told.
        rest: the name without it.
        could_be: the modalities it could be, where it cannot be told.
        segmentation: it is no image.
    """

    modality: str = ""
    rest: str = ""
    could_be: tuple[str, ...] = ()
    segmentation: bool = False


class Speller:
    """Reads names.

    Args:
        modalities: canonical names of those that are asked for.
        own: modality -> spellings of the user's (kept as ``own_text``). They go before all others, most of all at the
            end of a name.
        editions: whose spellings are known, too.
    """

    def __init__(
        self, modalities: Sequence[str], own: Mapping[str, Iterable[str]], editions: Iterable[EditionSpec] = ()
    ) -> None:
        self.modalities = tuple(modalities)
        self.meanings: dict[Words, set[str]] = {}
        self.label_words: set[Words] = set()
        for name in modalities:
            self._add(name, name)
        for alias, name in ALIASES.items():
            self._add(alias, name)
        for name, spellings in USUAL.items():
            for spelling in spellings:
                self._add(spelling, name)
        self.editions = tuple(editions)
        for spec in self.editions:
            self.label_words |= {words_of(suffix) for suffix in spec.label_suffixes if suffix}
            for channel in spec.channels:
                for suffix in channel.suffixes:
                    self._add(suffix, channel.name)
        self.own_text = {spelling: canonical(name) for name, each in own.items() for spelling in each}
        self.own = {words_of(spelling): name for spelling, name in self.own_text.items()}
        self.meanings |= {words: {name} for words, name in self.own.items()}
        self.longest = max(map(len, self.meanings))

    def _is_label(self, words: Words, label: Words, before: str) -> bool:
        """Whether a name is that of an edition's label. ``gd`` may be an agent: a label in its cases only."""
        if label[0] in CONTRAST:
            return words[-1:] == label and (not before or any(spec.is_case(before) for spec in self.editions))
        return label in rows_of(words) if len(label) > 1 else words[-1:] == label

    def _add(self, spelling: str, name: str) -> None:
        self.meanings.setdefault(words_of(spelling), set()).add(name)

    def read(self, text: str) -> NameReading:
        """What a name says."""
        places = list(_WORD.finditer(text))
        words = words_of(text)
        if SEGMENTATION & {word.rstrip("0123456789") for word in words}:
            return NameReading(segmentation=True)
        rows = [(i, j) for i in range(len(words)) for j in range(i + 1, min(len(words), i + self.longest) + 1)]
        spelled = [(i, j) for i, j in rows if words[i:j] in self.meanings]
        if not spelled:
            before = text[: places[-1].start()].rstrip(" _.-+") if places else ""
            return NameReading(
                rest=text, segmentation=any(self._is_label(words, each, before) for each in self.label_words)
            )
        own = [(i, j) for i, j in rows if words[i:j] in self.own]
        spelled = [(i, j) for i, j in own if j == len(words)] or own or spelled
        spelled = [(i, j) for i, j in spelled if not any(a <= i and j <= b and (a, b) != (i, j) for a, b in spelled)]
        meant = set().union(*(self.meanings[words[i:j]] for i, j in spelled))
        meant = meant & set(self.modalities) or meant
        start, end = spelled[-1]
        spelling = {index for i, j in spelled for index in range(i, j)}
        if not own and _DOUBTFUL & {word for index, word in enumerate(words) if index not in spelling}:
            # T1, and an agent elsewhere: who knows. T1 and T1ce, and an agent elsewhere: T1ce.
            meant = {frozenset({"t1"}): {"t1", "t1ce"}, frozenset({"t1", "t1ce"}): {"t1ce"}}.get(
                frozenset(meant), meant
            )
        if not own and meant == {"t2", "flair"} and _DARK_FLUID & rows_of(words):
            meant = {"flair"}
        if not own and meant == {"t2"} and "tirm" in words:  # an inversion recovery: of fluid, perhaps, or of fat
            meant = {"t2", "flair"}
        if not own and meant & {"t1", "t1ce"} and _SUBTRACTED & {*words[end:]}:  # T1ce minus T1 is neither
            meant = {"t1", "t1ce"}
        if len(meant) > 1:
            return NameReading(could_be=tuple(sorted(meant)))
        before, after = text[: places[start].start()], text[places[end - 1].end() :]
        parts = [part for part in (before.rstrip(" _.-+"), after.strip(" _.-+")) if part]
        return NameReading(meant.pop(), "_".join(parts))
