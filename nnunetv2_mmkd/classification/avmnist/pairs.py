"""The 1500 pairs of a digit and its sound, their three parts, and the missing rates.

Legend: N pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from nnunetv2_mmkd.classification.avmnist.digits import read_digits
from nnunetv2_mmkd.classification.avmnist.sounds import Clip, find_clips, read_sounds
from nnunetv2_mmkd.classification.subjects import DataSplit, Subjects
from nnunetv2_mmkd.errors import InputError

MODALITIES = ("image", "audio")
DIGITS = tuple(str(digit) for digit in range(10))
SPEAKERS = ("jackson", "nicolas", "theo")
"""Speakers of the 1500 pairs; the data set has more by now."""

PER_SPEAKER = 50
"""Clips of a digit and speaker that are used: the first 50."""

TRAINING, VALIDATION = 30, 5
"""Of those, by speaker and digit: training 60 %, validation 10 %; the rest, 30 %, is for testing."""


def select_clips(clips: Sequence[Clip]) -> list[Clip]:
    """The 1500 clips of the protocol among those of a folder.

    Raises:
        InputError: some do not exist.
    """
    available = {(clip.digit, clip.speaker, clip.index): clip for clip in clips}
    keys = [(digit, speaker, i) for digit in range(10) for speaker in SPEAKERS for i in range(PER_SPEAKER)]
    lacking = ["{}_{}_{}.wav".format(*key) for key in keys if key not in available]
    if lacking:
        raise InputError(
            f"{clips[0].file.parent} lacks {len(lacking)} of the {len(keys)} clips, e.g. {', '.join(lacking[:3])}; "
            "expected all of them, download the data set again"
        )
    return [available[key] for key in keys]


@dataclass(frozen=True)
class AudiovisionData:
    """Everything that is read.

    Attributes:
        images: uint8 ``[., 28, 28]``.
        labels: of the images.
        clips: of the sounds, as :func:`select_clips` returns them.
        sounds: MFCC ``[., 20, 20]``.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    clips: Sequence[Clip]
    sounds: NDArray[np.float32]

    def split(self, seed: int, published: bool = False) -> DataSplit:
        """Pair images and sounds within their class and split them 60/10/30, by class and speaker.

        Args:
            seed: of images, split and pairs.
            published: the published test part (clips 0-14 of each speaker and digit, the first images of a class in
                the file's order); the seed then draws the validation part only.

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
        testing = PER_SPEAKER - TRAINING - VALIDATION
        for digit in range(10):
            drawn: dict[str, list[int]] = {part: [] for part in rows}
            for speaker in SPEAKERS:
                own = [row for row, clip in enumerate(self.clips) if (clip.digit, clip.speaker) == (digit, speaker)]
                if published:
                    own.sort(key=lambda row: self.clips[row].index)
                    own[testing:] = random.permutation(own[testing:]).tolist()
                else:
                    own = random.permutation(own).tolist()
                drawn["test"] += own[:testing]
                drawn["validation"] += own[testing : testing + VALIDATION]
                drawn["training"] += own[testing + VALIDATION :]
            pictures = np.flatnonzero(self.labels == digit)
            count = PER_SPEAKER * len(SPEAKERS)
            if len(pictures) < count:
                raise InputError(f"the images hold the digit {digit} {len(pictures)} times; {count} are needed")
            chosen = iter(pictures[:count] if published else random.choice(pictures, count, replace=False))
            for part in rows:
                own = drawn[part] if published else random.permutation(drawn[part]).tolist()
                rows[part] += [(int(next(chosen)), sound) for sound in own]
        return DataSplit(**{part: self._subjects(pairs) for part, pairs in rows.items()})

    def _subjects(self, rows: Sequence[tuple[int, int]]) -> Subjects:
        """The pairs of these rows of images and sounds."""
        images, sounds = map(list, zip(*rows, strict=True))
        image = torch.from_numpy(self.images[images]).float()[:, None] / 255
        sound = torch.from_numpy(self.sounds[sounds])[:, None]
        return Subjects(
            ids=tuple(f"{self.clips[sound].file.stem}-{image}" for image, sound in rows),
            inputs={"image": (image - 0.5) / 0.5, "audio": (sound - 0.5) / 0.5},
            present=torch.ones(len(rows), 2, dtype=torch.bool),
            labels=torch.from_numpy(self.labels[images]),
            classes=DIGITS,
        )


def read_data(mnist: Path, fsdd: Path, progress: bool = False) -> AudiovisionData:
    """Read digits and sounds.

    Raises:
        InputError: files that do not exist or contain something else.
    """
    images, labels = read_digits(mnist)
    clips = select_clips(find_clips(fsdd))
    return AudiovisionData(images, labels, clips, read_sounds(clips, progress))


def with_rate(subjects: Subjects, scarce: str, rate: float, seed: int) -> Subjects:
    """Leave a modality to a share of the subjects, balanced over the classes.

    With one seed the subjects that have it at a rate have it at every higher rate, too.

    Args:
        subjects: complete ones.
        scarce: the modality.
        rate: share of the subjects that keep it, in (0, 1].
        seed: of the draw.

    Raises:
        InputError: the rate is out of range, or no subject would keep the modality.

    References:
        Wang et al., MetaKD, §4.3: the rate is the share of the training data whose sound (image) is available.
    """
    count = round(rate * len(subjects))
    if not 0 < rate <= 1 or count < 1:
        raise InputError(f"{scarce} rate {rate}: expected a share in (0, 1] that leaves it to at least one subject")
    random = np.random.default_rng((seed, MODALITIES.index(scarce)))
    order = random.permutation(len(subjects))
    labels = subjects.labels.numpy()[order]
    rank = pd.Series(labels).groupby(labels).cumcount()  # within the class
    kept = order[np.argsort(rank, kind="stable")][:count]  # one of each class in turn
    keep = torch.ones_like(subjects.present)
    column = subjects.modalities.index(scarce)
    keep[:, column] = False
    keep[torch.from_numpy(kept), column] = True
    return subjects.masked(keep)
