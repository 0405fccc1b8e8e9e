"""The 1500 pairs of a digit and its sound, their three parts, and the missing rates.

Legend: N pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nnunetv2_mmkd.classification.avmnist.sounds import Clip
from nnunetv2_mmkd.classification.subjects import Subjects
from nnunetv2_mmkd.errors import InputError

MODALITIES = ("image", "audio")
DIGITS = tuple(str(digit) for digit in range(10))
SPEAKERS = ("jackson", "nicolas", "theo")
"""Speakers of the 1500 pairs; the data set has more by now."""

PER_SPEAKER = 50
"""Clips of a digit and speaker that are used: the first 50."""

TRAINING, VALIDATION = 30, 5
"""Of those, by speaker and digit: training 60 %, validation 10 %; the rest, 30 %, is for testing."""


@dataclass(frozen=True)
class Parts:
    """The three parts of a split; no image and no sound is in two of them.

    Attributes:
        training, validation, test: 900, 150 and 450 pairs with the published data.
    """

    training: Subjects
    validation: Subjects
    test: Subjects


def needed(clips: Sequence[Clip]) -> list[Clip]:
    """The 1500 clips of the protocol among those of a folder.

    Raises:
        InputError: some are not there.
    """
    there = {(clip.digit, clip.speaker, clip.index): clip for clip in clips}
    wanted = [(d, s, i) for d in range(10) for s in SPEAKERS for i in range(PER_SPEAKER)]
    lacking = [
        f"{digit}_{speaker}_{index}.wav" for digit, speaker, index in wanted if (digit, speaker, index) not in there
    ]
    if lacking:
        raise InputError(
            f"{clips[0].file.parent} lacks {len(lacking)} of the {len(wanted)} clips, e.g. {', '.join(lacking[:3])}; "
            "expected all of them, get the data set anew"
        )
    return [there[key] for key in wanted]


def make_parts(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    clips: Sequence[Clip],
    sounds: NDArray[np.float32],
    seed: int,
    published: bool = False,
) -> Parts:
    """Pair images and sounds within their class and split them 60/10/30, by class and speaker.

    Args:
        images: uint8 ``[., 28, 28]``.
        labels: of the images.
        clips: of the sounds, as :func:`needed` gives them.
        sounds: MFCC ``[., 20, 20]``.
        seed: of images, split and pairs.
        published: the published test part (clips 0-14 of each speaker and digit, the first images of a class in the
            file's order); the seed then draws the validation part only.

    Returns:
        Both inputs as (x - 0.5) / 0.5, images from [0, 1], shapes ``[N, 1, 28, 28]`` and ``[N, 1, 20, 20]``.

    Raises:
        InputError: too few images of a digit.

    References:
        Wang et al., MetaKD, §7 (60/10/30); pairs within a class as in SMIL's code.

    Deviations from the paper:
        The paper has one split. Test images are of MNIST's training part, because one file is read.
    """
    random = np.random.default_rng(seed)
    rows: dict[str, list[tuple[int, int]]] = {"training": [], "validation": [], "test": []}
    for digit in range(10):
        drawn: dict[str, list[int]] = {"training": [], "validation": [], "test": []}
        for speaker in SPEAKERS:
            own = [row for row, clip in enumerate(clips) if (clip.digit, clip.speaker) == (digit, speaker)]
            own = _test_first(own, clips, random, published)
            split = PER_SPEAKER - TRAINING - VALIDATION
            drawn["test"] += own[:split]
            drawn["validation"] += own[split : split + VALIDATION]
            drawn["training"] += own[split + VALIDATION :]
        pictures = np.flatnonzero(labels == digit)
        wanted = PER_SPEAKER * len(SPEAKERS)
        if len(pictures) < wanted:
            raise InputError(f"the images hold the digit {digit} {len(pictures)} times; {wanted} are needed")
        chosen = pictures[:wanted] if published else random.choice(pictures, wanted, replace=False)
        start = 0
        for part in ("training", "validation", "test"):
            own = drawn[part] if published else random.permutation(drawn[part]).tolist()
            rows[part] += [(int(i), s) for i, s in zip(chosen[start : start + len(own)], own, strict=True)]
            start += len(own)
    return Parts(*(_subjects(rows[part], images, labels, clips, sounds) for part in rows))


def _test_first(own: list[int], clips: Sequence[Clip], random: np.random.Generator, published: bool) -> list[int]:
    """Rows of a speaker's clips of a digit: those for testing first."""
    if not published:
        return random.permutation(own).tolist()
    by_index = sorted(own, key=lambda row: clips[row].index)
    split = PER_SPEAKER - TRAINING - VALIDATION
    return by_index[:split] + random.permutation(by_index[split:]).tolist()


def _subjects(
    rows: Sequence[tuple[int, int]],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    clips: Sequence[Clip],
    sounds: NDArray[np.float32],
) -> Subjects:
    pictures, clip_rows = [image for image, _ in rows], [sound for _, sound in rows]
    image = torch.from_numpy(images[pictures]).float()[:, None] / 255
    sound = torch.from_numpy(sounds[clip_rows])[:, None]
    return Subjects(
        ids=tuple(f"{clips[sound].file.stem}-{image}" for image, sound in rows),
        inputs={"image": (image - 0.5) / 0.5, "audio": (sound - 0.5) / 0.5},
        present=torch.ones(len(rows), 2, dtype=torch.bool),
        labels=torch.from_numpy(labels[pictures]),
        classes=DIGITS,
    )


def with_rate(subjects: Subjects, scarce: str, rate: float, seed: int) -> Subjects:
    """Leave a modality to a share of the subjects, balanced over the classes.

    With one seed those who have it at a rate have it at every higher rate, too.

    Args:
        subjects: complete ones.
        scarce: the modality.
        rate: share of the subjects that keep it, in (0, 1].
        seed: of the draw.

    Raises:
        InputError: the rate is out of range, or nobody would keep the modality.

    References:
        Wang et al., MetaKD, §4.3: the rate is the share of the training data whose sound (image) is available.
    """
    count = round(rate * len(subjects))
    if not 0 < rate <= 1 or count < 1:
        raise InputError(f"{scarce} rate {rate}: expected a share in (0, 1] that leaves it to at least one subject")
    random = np.random.default_rng((seed, MODALITIES.index(scarce)))
    order = random.permutation(len(subjects))
    labels = subjects.labels.numpy()[order]
    rank = np.array([int((labels[:place] == label).sum()) for place, label in enumerate(labels)])
    kept = order[np.argsort(rank, kind="stable")][:count]  # one of each class in turn
    keep = torch.ones_like(subjects.present)
    column = subjects.modalities.index(scarce)
    keep[:, column] = False
    keep[torch.from_numpy(kept), column] = True
    return subjects.masked(keep)
