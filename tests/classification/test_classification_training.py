"""The training loop with the methods of the package, unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_subjects import FlexMoEForToy, SMILForToy, classifier, rival, shared_specific, toy

from nnunetv2_mmkd.classification.auto_encoder import AutoEncoderClassifier, AutoEncoderCompletion
from nnunetv2_mmkd.classification.flex_moe import FlexMoE
from nnunetv2_mmkd.classification.network import MultiModalClassifier
from nnunetv2_mmkd.classification.smil import SMIL
from nnunetv2_mmkd.classification.subjects import Subjects
from nnunetv2_mmkd.classification.training import TrainSettings, train_classifier
from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.base import Method
from nnunetv2_mmkd.methods.lckd import LCKD
from nnunetv2_mmkd.methods.lckd_config import LCKDConfig
from nnunetv2_mmkd.methods.metakd import MetaKD
from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.methods.modality_dropout import ModalityDropout
from nnunetv2_mmkd.methods.shaspec import ShaSpec
from nnunetv2_mmkd.modalities import ModalityDropoutConfig

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = TrainSettings(epochs=4, batch_size=16, modality_dropout=ModalityDropoutConfig("count_uniform"), save_every=2)
METHODS: dict[str, Callable[[], Method]] = {
    "dropout": ModalityDropout,
    "metakd": lambda: MetaKD(MetaKDConfig(meta_interval=3, meta_steps=2)),
    "metakd by descent": lambda: MetaKD(MetaKDConfig(meta_interval=3, meta_steps=2, meta_optimizer="sgd")),
    "equal": lambda: MetaKD(MetaKDConfig(ratios="equal")),
    "lckd": lambda: LCKD(LCKDConfig(initial_teacher="none", least_elections=3)),
    "shaspec": ShaSpec,
    "auto-encoder": AutoEncoderCompletion,
    "smil": SMIL,
    "flex-moe": FlexMoE,
}
KINDS: dict[str, type[MultiModalClassifier]] = {
    "auto-encoder": AutoEncoderClassifier,
    "smil": SMILForToy,
    "flex-moe": FlexMoEForToy,
}


def network_for(name: str) -> MultiModalClassifier:
    if name in KINDS:
        return rival(KINDS[name])
    return shared_specific() if name == "shaspec" else classifier()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns(name: str) -> None:
    torch.manual_seed(0)
    net = network_for(name)
    settings = replace(SETTINGS, epochs=12, lr=1e-2, weight_decay=0.0)
    curves = train_classifier(net, METHODS[name](), toy(96), toy(40, seed=5, name="v"), settings)
    task = curves["loss/task"]
    assert len(task) == 12 and task[-1] < 0.8 * task[0]
    test = toy(200, seed=9, name="t").only(["a"])
    inputs = {**test.inputs, "b": torch.full((len(test), 5), torch.nan)}
    with torch.no_grad():
        predicted = net(inputs, torch.tensor([True, False])).argmax(1)
    # SMIL, which completes the missing one from clusters' means, has 0.78
    assert (predicted == test.labels).double().mean() > (0.7 if name == "smil" else 0.85)
    assert not net.training


def test_learned_weights_prefer_the_informative_modality() -> None:
    made = MetaKD(MetaKDConfig(meta_interval=3, meta_steps=5))
    curves = train_classifier(classifier(), made, toy(96), toy(40, seed=5, name="v"), replace(SETTINGS, epochs=15))
    assert curves["importance/a"][-1] > curves["importance/b"][-1]
    assert curves["meta updates/so far"][-1] == 15 * 6 / 3 * 5


def test_the_better_modality_is_elected() -> None:
    made = LCKD(LCKDConfig(initial_teacher="none", least_elections=5))
    curves = train_classifier(classifier(), made, toy(96), toy(60, seed=5, name="v"), replace(SETTINGS, epochs=15))
    assert made.teachers[0] == 0 and curves["elections/so far"][-1] >= 5
    assert curves["distillation per pair/mean"][-1] > 0


def test_without_distillation_metakd_is_modality_dropout_bit_for_bit() -> None:
    nets = []
    for made in (MetaKD(MetaKDConfig(alpha=0.0, meta_interval=3)), ModalityDropout()):
        nets.append(classifier())
        train_classifier(nets[-1], made, toy(), toy(40, seed=5, name="v"), SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(name: str, tmp_path: Path) -> None:
    def run(epochs: int, file: Path) -> tuple[dict[str, torch.Tensor], dict[str, list[float]]]:
        net = network_for(name)
        state = torch.get_rng_state()
        try:
            curves = train_classifier(
                net, _stopping(METHODS[name](), epochs), toy(), toy(40, seed=5, name="v"), SETTINGS, checkpoint=file
            )
        except KeyboardInterrupt:
            curves = {}
        assert torch.equal(state, torch.get_rng_state())
        return net.state_dict(), curves

    whole, curves = run(99, tmp_path / "whole.pt")
    run(2, tmp_path / "parted.pt")
    parted, again = run(99, tmp_path / "parted.pt")
    assert all(torch.equal(whole[key], parted[key]) for key in whole)
    assert torch.equal(torch.tensor(list(curves.values())), torch.tensor(list(again.values()))) or all(
        torch.allclose(torch.tensor(curves[key]), torch.tensor(again[key]), equal_nan=True) for key in curves
    )


def _stopping(method: Method, after: int) -> Method:
    """The method, interrupted by the user after so many epochs."""
    ends = method.end_epoch

    def end_epoch(network: object, epoch: int) -> None:
        if epoch == after:
            raise KeyboardInterrupt
        ends(network, epoch)

    method.end_epoch = end_epoch  # type: ignore[method-assign]
    return method


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    train_classifier(classifier(), ModalityDropout(), toy(), None, replace(SETTINGS, epochs=1), checkpoint=file)
    with pytest.raises(InputError, match=r"of another training \(settings"):
        train_classifier(classifier(), ModalityDropout(), toy(), None, replace(SETTINGS, lr=0.1), checkpoint=file)
    file.write_bytes(b"rubbish")
    with pytest.raises(InputError, match="damaged"):
        train_classifier(classifier(), ModalityDropout(), toy(), None, SETTINGS, checkpoint=file)


@pytest.mark.parametrize(
    ("method", "training", "held_out", "message"),
    [
        (MetaKD, toy(), None, "MetaKD needs held-out subjects"),
        (MetaKD, toy(), toy(4), "s0 is trained on and held out"),
        (ModalityDropout, toy().only(["a"]), None, "the network a, b"),
        (ModalityDropout, toy(), replace(toy(4, name="v"), classes=("no", "perhaps")), "held-out subjects have other"),
        (ModalityDropout, toy().take([]), None, "no subject"),
    ],
)
def test_bad_input_is_named_before_training(
    method: Callable[[], Method], training: Subjects, held_out: Subjects | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train_classifier(classifier(), method(), training, held_out, SETTINGS)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("batch_size", 0), ("save_every", 0), ("lr", 0.0)])
def test_bad_settings_are_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name} must be"):
        replace(SETTINGS, **{name: value})


def test_a_loss_that_is_not_finite_is_named() -> None:
    subjects = toy(missing=0.0)
    subjects.inputs["a"][:] = torch.nan
    with pytest.raises(InputError, match="loss is nan in epoch 0"):
        train_classifier(classifier(), ModalityDropout(), subjects, None, SETTINGS)


def test_checkpoints_name_modality_dropout_as_the_first_version_did(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    train_classifier(classifier(), ModalityDropout(), toy(), None, replace(SETTINGS, epochs=1), checkpoint=file)
    stored = torch.load(file, weights_only=True)["about"]["settings"]
    names = {"epochs", "batch_size", "lr", "lr_factor", "lr_every", "weight_decay", "law", "seed"}
    assert set(stored) == names and stored["law"]["name"] == "count_uniform"
