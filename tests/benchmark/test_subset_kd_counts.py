"""The benchmark counts SubsetKD's teacher: a forward pass more in a step, nothing more in prediction."""

from __future__ import annotations

import pytest
from test_benchmark import tiny_plan

from nnunetv2_mmkd.benchmark.dropout_expectation import size_probabilities
from nnunetv2_mmkd.benchmark.run import BenchmarkSettings, run_benchmark
from nnunetv2_mmkd.modalities import ModalityDropoutConfig


@pytest.mark.parametrize("topology", ["plain", "resenc"])
def test_a_third_of_a_stock_step_for_the_teacher(topology: str) -> None:
    (row,) = run_benchmark(tiny_plan(topology), BenchmarkSettings(("nnUNetTrainerSubsetKD",), steps=0)).rows
    assert row.flops_ratio == pytest.approx(4 / 3, abs=0.04)  # the first convolution's input has no gradient
    assert row.forward_flops_ratio == pytest.approx([1, 1, 1, 1])


def test_sizes_under_a_deployment_distribution() -> None:
    distribution = ModalityDropoutConfig("deployment", missing={"t1ce": 0.3, "flair": 0.5})
    assert size_probabilities(distribution, ("t1", "t1ce", "t2", "flair")) == pytest.approx((0, 0.15, 0.5, 0.35))
