"""A made-up Audiovision-MNIST: the digit is the position of a bar in the picture, and the pitch of a tone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from nnunetv2_mmkd.classification.avmnist.pairs import PER_SPEAKER, SPEAKERS, AudiovisionData
from nnunetv2_mmkd.classification.avmnist.sounds import Clip


def pictures(per_digit: int = 160, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and labels, classes mixed."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(10), per_digit))
    images = random.integers(0, 60, (len(labels), 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * label : 5 + 2 * label, 4:24] = 250
    return images, labels.astype(np.int64)


def data(seed: int = 0) -> AudiovisionData:
    """Everything in memory; the MFCC are made up as well."""
    random = np.random.default_rng(seed)
    clips = [Clip(d, s, i, Path(f"{d}_{s}_{i}.wav")) for d in range(10) for s in SPEAKERS for i in range(PER_SPEAKER)]
    sounds = random.normal(0, 1, (len(clips), 20, 20)).astype(np.float32)
    for sound, clip in zip(sounds, clips, strict=True):
        sound[2 * clip.digit : 2 * clip.digit + 2, :4] += 3
    return AudiovisionData(*pictures(seed=seed), clips, sounds)


def write_clip(file: Path, seconds: float = 0.4, rate: int = 8000, channels: int = 1) -> None:
    """A tone as wav."""
    time = np.arange(int(seconds * rate)) / rate
    tone = (12000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
    wavfile.write(file, rate, tone if channels == 1 else np.stack([tone] * channels, axis=1))
