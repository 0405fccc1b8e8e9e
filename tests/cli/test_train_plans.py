"""Plans that a training or a measurement cannot use: refused by file and key before anything is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import refusal
from small_plans import DATASET, Plans, plans_for

OK = ["train", "7", "3d_fullres", "0", "-device", "cpu"]
EditPlans = Callable[[Plans, Plans, Plans], object]
NOT_ONE_STRIDE = "the first entry of 'strides' is [2, 2, 2]: expected 1 on each axis"
BAD_PLANS: dict[str, tuple[EditPlans, str]] = {  # of a configuration, of its network, of all
    "no patch": (lambda c, a, p: c.pop("patch_size"), "has no 'patch_size'"),
    "a flat patch": (lambda c, a, p: c.update(patch_size=[16, 16], spacing=[1, 1]), "but 'patch_size' has 2 axes"),
    "a huge patch": (lambda c, a, p: c.update(patch_size=[16, 16, 10**9]), "3 numbers from 1 to 8192"),
    "an odd patch": (lambda c, a, p: c.update(patch_size=[16, 16, 15]), "a multiple of [2, 2, 2], the product of"),
    "one voxel": (lambda c, a, p: c.update(patch_size=[2, 2, 2]), "more than one voxel must be left"),
    "a flat kernel": (lambda c, a, p: a["kernel_sizes"][1].pop(), "an entry of 'kernel_sizes' is [3, 3]"),
    "an even kernel": (lambda c, a, p: a.update(kernel_sizes=[[3] * 3, [2] * 3]), "[2, 2, 2]: expected odd numbers"),
    "no stride": (lambda c, a, p: a["strides"][0].append(True), "an entry of 'strides' is [1, 1, 1, True]"),
    "no stage": (lambda c, a, p: a["strides"].pop(), "'strides' is [[1, 1, 1]]: expected a list of 2 entries"),
    "a first stride": (lambda c, a, p: a["strides"].reverse(), NOT_ONE_STRIDE),
    "half a stage": (lambda c, a, p: a.update(n_stages=2.5), "'n_stages' is 2.5: expected a whole number from 2"),
    "no features": (lambda c, a, p: a.update(features_per_stage=[4, 0]), "an entry of 'features_per_stage' is 0"),
    "a norm too few": (
        lambda c, a, p: c["normalization_schemes"].pop(),
        "'normalization_schemes' has 1 entries for 2",
    ),
    "NaN": (lambda c, a, p: c.update(spacing=[1, 1, float("nan")]), "'spacing' is [1, 1, nan]"),
    "infinity": (lambda c, a, p: c.update(spacing=[1, 1, float("inf")]), "'spacing' is [1, 1, inf]"),
    "nearly nothing": (lambda c, a, p: c.update(spacing=[1, 1, 1e-9]), "1e-09]: expected 3 numbers from 0.0001 to"),
    "a kilometre": (lambda c, a, p: c.update(spacing=[1, 1, 1e9]), "'spacing' is [1, 1, 1000000000.0]"),
    "no cases": (lambda c, a, p: c.update(batch_size=0), "'batch_size' is 0: expected 1 to"),
    "half a case": (lambda c, a, p: c.update(batch_size=0.5), "'batch_size' is a number: expected a whole number"),
    "no Dice": (lambda c, a, p: c.pop("batch_dice"), "has no 'batch_dice'"),
    "a circle": (lambda c, a, p: c.update(inherits_from="3d_fullres"), "cannot be used (RuntimeError: Circular"),
    "no arguments": (lambda c, a, p: c["architecture"].pop("arch_kwargs"), "'arch_kwargs' is None"),
    "a resampling": (lambda c, a, p: c.update(resampling_fn_seg="No"), "knows no 'resampling_fn_seg' 'No'"),
    "a module": (lambda c, a, p: c.update(resampling_fn_seg="np"), "knows no 'resampling_fn_seg' 'np'"),
    "a helper": (lambda c, a, p: c.update(resampling_fn_data="compute_new_shape"), "'compute_new_shape'"),
    "an order": (lambda c, a, p: c["resampling_fn_data_kwargs"].update(order=99), "'order' is 99: expected a whole"),
    "a word": (
        lambda c, a, p: c["resampling_fn_data_kwargs"].update(ordre=3),
        "does not take 'ordre'; it takes is_seg",
    ),
    "labels": (lambda c, a, p: c["resampling_fn_data_kwargs"].update(is_seg=True), "'is_seg' is True: expected false"),
    "no labels": (lambda c, a, p: c["resampling_fn_seg_kwargs"].pop("is_seg"), "'is_seg' is False: expected true"),
    "a scheme": (lambda c, a, p: c.update(normalization_schemes=["No"] * 2), "'No': nnU-Net knows no ImageNormal"),
    "no scheme": (lambda c, a, p: c.update(normalization_schemes=["ImageNormalization"] * 2), "'ImageNormalization'"),
    "no reader": (lambda c, a, p: p.update(label_manager="np"), "'label_manager' is 'np': nnU-Net knows no Label"),
    "a preprocessor": (lambda c, a, p: c.update(preprocessor_name="join"), "'preprocessor_name' is 'join'"),
    "a stage": (lambda c, a, p: c.update(previous_stage="3d_low"), "'previous_stage' is '3d_low': expected one of"),
    "stages": (lambda c, a, p: c.update(next_stage=[{}]), "'next_stage' is '{}': expected one of"),
    "a layer": (lambda c, a, p: a.update(norm_op="torch.nn.No"), "'norm_op' is 'torch.nn.No': expected a layer below"),
    "a function": (lambda c, a, p: a.update(nonlin="torch.nn.functional.relu"), "'nonlin' is 'torch.nn.functional.rel"),
    "a program": (lambda c, a, p: a.update(conv_op="os.system"), "'conv_op' is 'os.system': expected a layer below"),
    "another layer": (lambda c, a, p: a.update(conv_op="torch.nn.Linear"), "'conv_op' is 'torch.nn.Linear'"),
    "a flat norm": (lambda c, a, p: a.update(norm_op="torch.nn.BatchNorm2d"), "BatchNorm2d, but 'patch_size' has 3"),
    "an option": (lambda c, a, p: a["norm_op_kwargs"].update(affin=True), "with 'norm_op_kwargs' {'affine': True, 'a"),
    "a wide layer": (lambda c, a, p: a.update(nonlin="torch.nn.Flatten"), "no layer that keeps the shape"),
    "an import": (lambda c, a, p: c["architecture"].update(_kw_requires_import=["no"]), "has 'no', which 'arch_kw"),
    "a network": (
        lambda c, a, p: c["architecture"].update(network_class_name="dynamic_network_architectures.No"),
        "'network_class_name' is 'dynamic_network_architectures.No', which is no network",
    ),
    "a key": (lambda c, a, p: a.update(pool_op="max"), "PlainConvUNet has no 'pool_op'; it has n_stages"),
    "no key": (lambda c, a, p: a.pop("strides"), "has no 'strides', which PlainConvUNet needs"),
    "another's": (lambda c, a, p: p.update(dataset_name="Dataset008_Y"), "plans of another data set than Dataset007_X"),
    "a way out": (lambda c, a, p: p.update(plans_name="../x"), "'plans_name' is '../x': expected the name of a folder"),
    "a way down": (lambda c, a, p: c.update(data_identifier="a/b"), "'data_identifier' is 'a/b': expected the name"),
    "words": (lambda c, a, p: p.update(mmkd={"exclusive": "no"}), "mmkd: 'exclusive' is text: expected true or false"),
    "a list": (lambda c, a, p: p.update(mmkd={"network": []}), "mmkd: 'network' is a list: expected an object"),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_bad_plans(data: Path, calls: list[object], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "dataset.json").write_text(json.dumps(DATASET))
    plans = plans_for(4)
    configuration = plans["configurations"]["3d_fullres"]
    edit, message = BAD_PLANS[name]
    edit(configuration, configuration["architecture"]["arch_kwargs"], plans)
    file = data / "nnUNetPlans.json"
    file.write_text(json.dumps(plans))
    for command in (OK, ["benchmark", "-d", "7", "-tr", "nnUNetTrainerMetaKD", "--steps", "0", "-device", "cpu"]):
        error = refusal(command, capsys)
        assert str(file) in error and message in error and len(error.splitlines()) == 1
    assert not calls and not list((data.parents[1] / "results").iterdir())
