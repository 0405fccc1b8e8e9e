"""What a method asks of its trainer fits together, and is refused before the first step where it does not."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_mmkd.methods.base import HeldOut, Method, NextMetaBatch, SingleModalityDice, TrainingContext

CONTEXT = TrainingContext(("t1", "t2"), torch.device("cpu"))


@pytest.mark.parametrize(
    ("needed", "held_out", "kind"),
    [
        (NextMetaBatch, None, "meta"),
        (NextMetaBatch, HeldOut("election", share=0.1), "meta"),
        (SingleModalityDice, None, "election"),
        (SingleModalityDice, HeldOut("meta", share=0.1), "election"),
    ],
)
def test_needs_and_held_out_cases_agree(needed: type, held_out: HeldOut | None, kind: str) -> None:
    method: Method = Method()
    method.needs, method.held_out = (needed,), held_out
    with pytest.raises(ValueError, match=rf"Method needs {needed.__name__}: set its held_out to HeldOut\('{kind}'"):
        method.setup(CONTEXT)
    method.held_out = HeldOut(kind, share=0.1)
    with pytest.raises(NotImplementedError, match=f"needs {needed.__name__}, which this trainer does not"):
        method.setup(CONTEXT)


def test_kinds_of_held_out_cases() -> None:
    with pytest.raises(ValueError, match="'meta' or 'election', not for 'metaa'"):
        HeldOut("metaa", share=0.1)
