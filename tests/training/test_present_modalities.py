"""Cases come with their missing channels blank, whatever the normalisation made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnunetv2_mmkd.training.present_modalities import blanking


class Cases:
    """Stands for a data set of preprocessed cases; CT normalisation left -5 in the missing channel."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        return np.stack([np.ones((1, 2, 2)), np.full((1, 2, 2), -5.0)]), "seg", None, {"spacing": identifier}


def test_only_declared_channels_of_declared_cases_are_blanked() -> None:
    cases = blanking(Cases, {"a": [1]})("folder")
    data, seg, previous, properties = cases.load_case("a")
    assert not data[1].any() and data[0].all()
    assert (seg, previous, properties, cases.folder) == ("seg", None, {"spacing": "a"}, "folder")
    assert (cases.load_case("b")[0][1] == -5).all()
