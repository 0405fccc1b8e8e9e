"""What a method asks of its trainer fits together, and is refused before the first step where it does not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import HeldOut, Method, NextMetaBatch, SingleModalityDice, TrainingContext, loss_of
from nnunetv2_mmkd.training.curve_log import CurveLog

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


@pytest.mark.parametrize(
    ("returned", "said"), [(torch.ones(()), "Tensor"), ({"parts": {}}, "dict"), ({"loss": torch.ones(2)}, r"\(2,\)")]
)
def test_what_a_step_returns_is_checked(returned: object, said: str) -> None:
    with pytest.raises(InputError, match=rf"Method\.step returned .*{said}.*: expected \{{'loss': a tensor"):
        loss_of(Method(), returned)
    assert loss_of(Method(), {"loss": torch.ones(()), "parts": {}}) == 1


def test_a_curve_that_is_named_is_returned() -> None:
    class Forgetful(Method):
        def curve_names(self) -> tuple[str, ...]:
            return ("loss/task", "loss/distillation")

        def curves(self) -> dict[str, float]:
            return {"loss/task": 1.0}

    log = CurveLog(SimpleNamespace(current_epoch=0), Forgetful().curve_names())
    with pytest.raises(InputError, match=r"Forgetful names the curve 'loss/distillation' in curve_names\(\)"):
        log.register(Forgetful())
