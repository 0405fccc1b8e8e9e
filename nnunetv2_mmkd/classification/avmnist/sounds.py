"""Spoken digits (Free Spoken Digit Dataset): clips of a folder, and their MFCC by the protocol.

The MFCC come from librosa: the protocol is defined by its defaults, it is maintained, and unlike torchaudio it is not
tied to one version of torch. Wav files are read by SciPy.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile
from tqdm import tqdm

from nnunetv2_mmkd.errors import InputError

RATE = 8000
"""Sampling rate of the data set, Hz."""

STEP = 3
"""Every third sample is kept (SMIL's code)."""

COEFFICIENTS = FRAMES = 20
"""Size of a sound: coefficients and frames."""

_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[A-Za-z]+)_(?P<index>\d+)\.wav")


@dataclass(frozen=True, order=True)
class Clip:
    """One clip, ``{digit}_{speaker}_{index}.wav``.

    Attributes:
        digit, speaker, index: as in the file's name.
        file: its path.
    """

    digit: int
    speaker: str
    index: int
    file: Path


def find_clips(folder: Path) -> list[Clip]:
    """The clips of a folder, by digit, speaker and index.

    Raises:
        InputError: no such folder, or no clips in it.
    """
    if not folder.is_dir():
        raise InputError(f"--fsdd {folder}: no such folder; expected the wav files of the Free Spoken Digit Dataset")
    clips = []
    for file in folder.iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            clips.append(Clip(int(match["digit"]), match["speaker"], int(match["index"]), file))
    if not clips:
        raise InputError(f"--fsdd {folder}: no clip named like 7_jackson_32.wav; expected its folder `recordings`")
    return sorted(clips)


def read_clip(file: Path) -> NDArray[np.float32]:
    """Samples of a clip in [-1, 1].

    Raises:
        InputError: it cannot be read, has no samples, is not mono, or not of 8 kHz.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks with tags
            rate, samples = wavfile.read(file)
    except (OSError, ValueError, EOFError, struct.error) as error:
        raise InputError(f"{file}: cannot be read as wav ({error}); download it again") from error
    if rate != RATE:
        raise InputError(f"{file}: sampling rate {rate} Hz; expected {RATE}, as in the Free Spoken Digit Dataset")
    if samples.ndim != 1 or not samples.size:
        raise InputError(f"{file}: shape {samples.shape}; expected one channel with samples")
    if samples.dtype.kind == "i":
        result: NDArray[np.float32] = (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
        return result
    whole: NDArray[np.float32] = samples.astype(np.float32)
    return whole


class Mfcc:
    """MFCC 20x20 by the protocol.

    Every third sample is kept, then 20 coefficients are computed at a stated rate of 8000 Hz with librosa's defaults
    (window 2048, hop 512, 128 mel bands, 80 dB); the time axis is padded with zeros to 20 frames.

    References:
        Wang et al., MetaKD, §7; the details are those of SMIL's code, which the paper follows.

    Raises:
        InputError: librosa is not installed.
    """

    def __init__(self) -> None:
        try:
            import librosa
        except ImportError as error:
            raise InputError('MFCC need librosa: pip install "nnunetv2-mmkd[classification]"') from error
        self._librosa: Any = librosa
        self._bands = librosa.filters.mel(sr=RATE, n_fft=2048)  # once: librosa would make them for every clip

    def __call__(self, samples: NDArray[np.float32], name: str = "a clip") -> NDArray[np.float32]:
        """Samples -> ``[20, 20]`` (coefficient, frame).

        Raises:
            InputError: the clip has more than 20 frames.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a clip shorter than the window is padded
            power = np.abs(self._librosa.stft(samples[::STEP], n_fft=2048, hop_length=512)) ** 2
        decibel = self._librosa.power_to_db(self._bands @ power)
        coefficients = self._librosa.feature.mfcc(S=decibel, n_mfcc=COEFFICIENTS)
        frames = coefficients.shape[1]
        if frames > FRAMES:
            seconds = STEP * FRAMES * 512 / RATE
            raise InputError(f"{name}: {frames} frames, at most {FRAMES} are expected ({seconds:.1f} s); cut the clip")
        return np.pad(coefficients, ((0, 0), (0, FRAMES - frames))).astype(np.float32)


def read_sounds(clips: Sequence[Clip], progress: bool = False) -> NDArray[np.float32]:
    """MFCC of clips, ``[N, 20, 20]``.

    Raises:
        InputError: as :func:`read_clip` and :class:`Mfcc`.
    """
    mfcc = Mfcc()
    shown = tqdm(clips, desc="MFCC", unit="clip", disable=not progress)
    return np.stack([mfcc(read_clip(clip.file), str(clip.file)) for clip in shown])
