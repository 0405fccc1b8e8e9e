"""The ending ``_seed<N>`` of a trainer's name: what it fixes, and that nothing is touched without it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from tiny_nnunet import Home, differences, start

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.training import seeding
from nnunetv2_mmkd.training.suffixes import parse_suffixes

LENGTH = "_3epochs_2iters"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("_seed0", {"suffix_seed": 0}),
        ("_seed123456789", {"suffix_seed": 123456789}),
        ("_20epochs_seed3_mr28", {"suffix_epochs": 20, "suffix_seed": 3, "suffix_table": "mr28"}),
        ("_mr28_seed3_20epochs", {"suffix_epochs": 20, "suffix_seed": 3, "suffix_table": "mr28"}),
        ("_seed", {"suffix_table": "seed"}),
        ("_seeds_seed4", {"suffix_table": "seeds", "suffix_seed": 4}),
        ("_seed3a", {"suffix_table": "seed3a"}),
        ("_seed03", None),
        ("_seed1234567890", None),
        ("_seed3_seed4", None),
        ("_seed3_seed3", None),
        ("_seed-3", None),
        ("_Seed3", None),
    ],
)
def test_the_ending(text: str, found: dict[str, Any] | None) -> None:
    assert parse_suffixes(text) == found


def test_no_table_has_the_name_of_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2_mmkd.protocols.missing_rates import write_rates

    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path))
    with pytest.raises(InputError, match="'seed3': a trainer's name that ends in _seed3 asks for a seed"):
        write_rates(501, "seed3", rates=["t1=0.2"])


def trainer_of(home: Home, name: str) -> Any:
    return home.trainer(recursive_find_trainer_class_by_name(f"nnUNetTrainer{name}"), home.dataset())


@pytest.mark.parametrize("name", ["ModalityDropout", "MetaKD", "MSTKDNet", "RFNet"])
def test_initial_weights(home: Home, name: str) -> None:
    weights = []
    for chaos, seed in enumerate((3, 3, 4)):
        torch.manual_seed(chaos)
        trainer = trainer_of(home, f"{name}_seed{seed}{LENGTH}")
        trainer.initialize()
        trained = [module.state_dict() for module in trainer.method.trainable()]
        weights.append({"network": trainer.network.state_dict(), "joint": trained})
    assert differences(weights[0], weights[1]) == []
    assert differences(weights[0], weights[2])


def test_subsets_and_what_the_run_says_of_itself(home: Home) -> None:
    first, same, other = (trainer_of(home, f"ModalityDropout_seed{seed}{LENGTH}") for seed in (3, 3, 4))
    everything = torch.ones(50, 3, dtype=torch.bool)
    masks = [trainer.sampler(everything) for trainer in (first, same, other)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    start(first)
    assert json.loads((Path(first.output_folder) / "mmkd_config.json").read_text())["seed"] == 3
    plain = start(trainer_of(home, f"ModalityDropout{LENGTH}"))
    assert json.loads((Path(plain.output_folder) / "mmkd_config.json").read_text())["seed"] is None
    assert plain.seed == 12345


def test_without_the_ending_no_generator_is_touched(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*key: int) -> None:
        raise AssertionError(key)

    monkeypatch.setattr(seeding, "seed_generators", forbidden)
    trainer = start(trainer_of(home, f"MetaKD{LENGTH}"))
    trainer.on_epoch_start()
    with pytest.raises(AssertionError, match="3"):
        trainer_of(home, f"MetaKD_seed3{LENGTH}").initialize()


def disturb(number: int) -> None:
    """Another state of all generators, as in another process."""
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def test_a_seeded_training_is_repeated_and_resumed(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None
) -> None:
    """Patches and augmentation are drawn in this process: everything is fixed, on one thread of the CPU."""
    final = {}
    for number, (run, seed) in enumerate((("whole", 3), ("again", 3), ("resumed", 3), ("other", 4))):
        monkeypatch.setenv("nnUNet_results", str(tmp_path / run))
        disturb(number)
        trainer = trainer_of(home, f"MetaKD_seed{seed}{LENGTH}")
        if run == "resumed":
            stop_before(trainer, 2)
            with pytest.raises(KeyboardInterrupt):
                trainer.run_training()
            disturb(99)
            trainer = trainer_of(home, f"MetaKD_seed{seed}{LENGTH}")
            trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
            assert trainer.current_epoch == 2
        trainer.run_training()
        final[run] = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
    for part in ("network_weights", "optimizer_state"):
        assert differences(final["whole"][part], final["again"][part]) == []
        assert differences(final["whole"][part], final["resumed"][part]) == []
        assert differences(final["whole"][part], final["other"][part])
    assert final["whole"]["logging"]["train_losses"] == final["resumed"]["logging"]["train_losses"]


def stop_before(trainer: Any, epoch: int) -> None:
    """Interrupt a training at the start of an epoch."""
    go_on = trainer.on_epoch_start

    def on_epoch_start() -> None:
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt
        go_on()

    trainer.on_epoch_start = on_epoch_start
