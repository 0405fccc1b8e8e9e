"""Pairs, parts and rates of Audiovision-MNIST."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from spoken_digits import data

from nnunetv2_mmkd.classification.avmnist.pairs import select_clips, with_rate
from nnunetv2_mmkd.errors import InputError

DATA = data()
PARTS = DATA.split(seed=3)


def test_1500_pairs_60_10_30_and_nothing_twice() -> None:
    assert [len(part) for part in (PARTS.training, PARTS.validation, PARTS.test)] == [900, 150, 450]
    names = [name for part in (PARTS.training, PARTS.validation, PARTS.test) for name in part.ids]
    clips, images = zip(*(name.rsplit("-", 1) for name in names), strict=True)
    assert len(set(clips)) == 1500 and len(set(images)) == 1500
    for part, each in ((PARTS.training, 30), (PARTS.validation, 5), (PARTS.test, 15)):
        assert part.labels.bincount().tolist() == [3 * each] * 10
        for speaker in ("jackson", "nicolas", "theo"):
            assert sum(f"_{speaker}_" in name for name in part.ids) == 10 * each
        for name, label in zip(part.ids, part.labels.tolist(), strict=True):
            assert name[0] == str(label) and DATA.labels[int(name.rsplit("-", 1)[1])] == label


def test_inputs_are_normalised_as_published() -> None:
    name = PARTS.test.ids[0]
    clip, image = name.rsplit("-", 1)
    row = next(row for row, entry in enumerate(DATA.clips) if entry.file.stem == clip)
    assert torch.allclose(PARTS.test.inputs["audio"][0, 0], torch.from_numpy((DATA.sounds[row] - 0.5) / 0.5))
    assert torch.allclose(
        PARTS.test.inputs["image"][0, 0], (torch.from_numpy(DATA.images[int(image)]) / 255 - 0.5) / 0.5
    )


def test_seeds_are_new_splits_and_the_published_test_part_is_fixed() -> None:
    again = DATA.split(seed=3)
    assert again.test.ids == PARTS.test.ids
    other = DATA.split(seed=4)
    shared = {name.split("-")[0] for name in other.test.ids} & {name.split("-")[0] for name in PARTS.test.ids}
    assert 80 < len(shared) < 190  # 30 % of 450 expected
    published = [DATA.split(seed, published=True).test for seed in (0, 1)]
    assert published[0].ids == published[1].ids
    assert {int(name.split("-")[0].split("_")[2]) for name in published[0].ids} == set(range(15))


def test_rates_are_exact_balanced_and_nested() -> None:
    available = {}
    for rate in (0.05, 0.10, 0.20):
        masked = with_rate(PARTS.training, "audio", rate, seed=3)
        available[rate] = {name for name, present in zip(masked.ids, masked.present[:, 1], strict=True) if present}
        assert masked.present[:, 0].all() and len(available[rate]) == round(900 * rate)
        counts = masked.labels[masked.present[:, 1]].bincount(minlength=10)
        assert counts.max() - counts.min() <= 1
    assert available[0.05] < available[0.10] < available[0.20]
    assert not with_rate(PARTS.training, "image", 0.05, seed=3).present[:, 0].all()
    with pytest.raises(InputError, match="audio rate 0"):
        with_rate(PARTS.training, "audio", 0.0, seed=3)


def test_too_few_clips_or_images_are_named() -> None:
    assert select_clips(list(reversed(DATA.clips))) == list(DATA.clips)
    with pytest.raises(InputError, match=r"lacks 1 of the 1500 clips, e\.g\. 0_jackson_0\.wav"):
        select_clips(DATA.clips[1:])
    few = replace(DATA, images=DATA.images[:1000], labels=DATA.labels[:1000])
    with pytest.raises(InputError, match=r"digit 0 \d+ times; 150 are needed"):
        few.split(seed=0)
