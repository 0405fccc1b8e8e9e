"""Wav files and MFCC by the protocol, MNIST from an .npz; bad input is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spoken_digits import pictures, write_clip

from nnunetv2_mmkd.classification.avmnist.digits import read_digits
from nnunetv2_mmkd.classification.avmnist.sounds import Mfcc, find_clips, read_clip, read_sounds
from nnunetv2_mmkd.errors import InputError


def test_mfcc_are_librosas_of_every_third_sample(tmp_path: Path) -> None:
    librosa = pytest.importorskip("librosa")
    samples = np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32)
    expected = librosa.feature.mfcc(y=samples[::3], sr=8000, n_mfcc=20)
    mfcc = Mfcc()(samples)
    assert mfcc.shape == (20, 20) and np.array_equal(mfcc[:, : expected.shape[1]], expected)
    assert not mfcc[:, expected.shape[1] :].any()
    with pytest.raises(InputError, match=r"long\.wav: 21 frames"):
        Mfcc()(np.zeros(3 * 512 * 20 + 3, np.float32), "long.wav")


def test_clips_are_found_by_name_and_read(tmp_path: Path) -> None:
    pytest.importorskip("librosa")
    for name in ("7_theo_1", "0_jackson_12", "0_jackson_2"):
        write_clip(tmp_path / f"{name}.wav")
    (tmp_path / "readme.txt").write_text("x")
    clips = find_clips(tmp_path)
    assert [clip.file.stem for clip in clips] == ["0_jackson_2", "0_jackson_12", "7_theo_1"]
    assert np.abs(read_clip(clips[0].file)).max() == pytest.approx(12000 / 32768, rel=1e-3)
    assert read_sounds(clips).shape == (3, 20, 20)


def test_bad_sounds_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_clips(tmp_path / "none")
    with pytest.raises(InputError, match="no clip named like"):
        find_clips(tmp_path)
    file = tmp_path / "1_theo_1.wav"
    write_clip(file, rate=16000)
    with pytest.raises(InputError, match=r"1_theo_1\.wav: sampling rate 16000 Hz; expected 8000"):
        read_clip(file)
    write_clip(file, channels=2)
    with pytest.raises(InputError, match="expected one channel"):
        read_clip(file)
    file.write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"1_theo_1\.wav: cannot be read"):
        read_clip(file)


def test_digits_under_both_names_and_bad_files(tmp_path: Path) -> None:
    images, labels = pictures(2)
    np.savez(tmp_path / "ours.npz", images=images, labels=labels)
    np.savez(tmp_path / "keras.npz", x_train=images, y_train=labels, x_test=images)
    for name in ("ours", "keras"):
        read = read_digits(tmp_path / f"{name}.npz")
        assert np.array_equal(read[0], images) and np.array_equal(read[1], labels)
    np.savez(tmp_path / "other.npz", a=images)
    np.savez(tmp_path / "flat.npz", images=images.reshape(20, -1), labels=labels)
    (tmp_path / "text.npz").write_text("x")
    for name, message in (
        ("other", "arrays a"),
        ("flat", "expected uint8"),
        ("text", "cannot be read"),
        ("no", "no.npz"),
    ):
        with pytest.raises(InputError, match=message):
            read_digits(tmp_path / f"{name}.npz")
