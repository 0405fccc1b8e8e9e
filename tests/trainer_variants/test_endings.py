"""Endings of single trainers: found by name, listed as they are, combined, and refused where they make no sense."""

from __future__ import annotations

import math
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tiny_nnunet import Home, start, steps

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.demoseg import DeMoSegConfig
from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.methods.mst_kdnet_config import MSTKDNetConfig
from nnunetv2_mmkd.methods.passion_config import PASSIONConfig
from nnunetv2_mmkd.methods.robust_seg import RobustSegConfig
from nnunetv2_mmkd.methods.shaspec import ShaSpecConfig
from nnunetv2_mmkd.methods.smunet import SMUNetConfig
from nnunetv2_mmkd.methods.uhved import UHVEDConfig
from nnunetv2_mmkd.paths import trainer_folder
from nnunetv2_mmkd.protocols.missing_table import check_tag
from nnunetv2_mmkd.trainer_catalogue import known_endings, trainers_of
from nnunetv2_mmkd.trainer_lookup import find_trainer
from nnunetv2_mmkd.training.specialist import nnUNetTrainerSubset
from nnunetv2_mmkd.training.suffixes import endings_of, refuse_ambiguous, refuse_unknown

ENTRIES = trainers_of(trainer_folder())
PRESETS: dict[str, Any] = {
    "MetaKD": MetaKDConfig,
    "PASSION": PASSIONConfig,
    "MSTKDNet": MSTKDNetConfig,
    "UHVED": UHVEDConfig,
    "ShaSpec": ShaSpecConfig,
    "DeMoSeg": DeMoSegConfig,
    "RobustSeg": RobustSegConfig,
    "SMUNet_t1": SMUNetConfig,
}


def resolved(name: str, ending: str = "") -> Any:
    """A class from its module, as nnU-Net gets it, without nnU-Net's search."""
    entry = max((each for each in ENTRIES if name.startswith(each.name)), key=lambda each: len(each.name))
    module = import_module(f"nnunetv2_mmkd.trainer_variants.{Path(entry.file).stem}")
    return getattr(module, name + ending)


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_every_ending_is_listed_and_changes_what_the_trainer_has(name: str) -> None:
    (entry,) = (each for each in ENTRIES if each.name == name)
    trainer = resolved(name)
    table = endings_of(trainer)
    assert {ending: each.text for ending, each in table.items()} == entry.endings
    subset = "_t1" if issubclass(trainer, nnUNetTrainerSubset) else ""
    for ending, each in table.items():
        made = resolved(name, f"_2epochs{subset}{ending}_seed3")
        assert made.suffix_endings == (ending,) and made.suffix_epochs == 2 and made.suffix_seed == 3
        changed = {key for key in each.trainer if getattr(trainer, key) != getattr(made, key)}
        assert bool(changed) == bool(each.trainer) and set(each.trainer) - changed <= {"own_parts"}, ending
        if each.config:
            same = [
                f.name for f in fields(made.config) if getattr(made.config, f.name) == getattr(trainer.config, f.name)
            ]
            assert len(same) < len(fields(made.config)) or ending == "_alpha01", ending
        assert each.text[0] != " " and not each.text.endswith(".")


def test_presets_are_the_released_codes() -> None:
    for name, config in PRESETS.items():
        assert resolved(f"nnUNetTrainer{name}", "_releasedcode").config == config.released_code()
    lckd = resolved("nnUNetTrainerLCKDSingleTeacher", "_releasedcode")
    assert lckd.config.teachers == "most_frequent" and lckd.config.soft_dice  # the rest of the configuration stays
    assert lckd.modality_dropout.name == "count_uniform_incomplete"


@pytest.mark.parametrize("name", ["UHeMIS", "UHVED", "RobustSeg", "RobustSeg_SFusion", "SFusion"])
def test_rivals_can_share_their_streams(home: Home, name: str) -> None:
    own, shared = (home.trainer(resolved(f"nnUNetTrainer{name}", each)) for each in ("", "_sharedstreams"))
    for trainer in (own, shared):
        start(trainer)
    count = [sum(each.numel() for each in trainer.network.parameters()) for trainer in (own, shared)]
    assert count[1] < count[0]
    assert all(math.isfinite(loss) for loss in steps(shared, [next(shared.dataloader_train)]))


@pytest.mark.parametrize("name", ["UHVED", "DeMoSeg", "MSTKDNet", "PASSION_RFNet", "MetaKD"])
def test_the_ranking_loss_goes_with_other_methods(home: Home, name: str) -> None:
    """Whatever their networks and further losses are."""
    trainer = home.trainer(resolved(f"nnUNetTrainer{name}", "_ranking"))
    start(trainer)
    assert all(math.isfinite(loss) for loss in steps(trainer, [next(trainer.dataloader_train) for _ in range(2)]))
    assert trainer.method.curve_names()[-1] == "loss/ranking" and math.isfinite(trainer.method.curves()["loss/ranking"])


def test_endings_combine_in_any_order() -> None:
    first = resolved("nnUNetTrainerMetaKD", "_alpha05_mr2468_p2_ownstreams_3epochs")
    second = resolved("nnUNetTrainerMetaKD", "_3epochs_ownstreams_p2_alpha05_mr2468")
    assert first.config == second.config == MetaKDConfig(alpha=0.5, p=2)
    assert (first.shared_streams, first.suffix_table, first.suffix_epochs) == (False, "mr2468", 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MetaKD_alpha05_alpha1", ["_alpha05 and _alpha1", "alpha"]),
        ("MetaKD_alpha05_5epochs_alpha05", ["_alpha05 and _alpha05"]),
        ("MetaKD_ownparts_ownstreams", ["own_parts"]),
        ("PASSION_onlypixel_onlyproto", ["_onlypixel and _onlyproto", "pixel"]),
        ("MetaKD_sigmoid_relu", ["normalisation"]),
        ("ModalityDropout_alpha05", ["ModalityDropout has no ending _alpha05", "MetaKD", "_ranking"]),
        ("SharedStreams_releasedcode", ["SharedStreams has no ending"]),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        resolved(f"nnUNetTrainer{name}")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MetaKD_Alpha05", ["MetaKD has no ending _Alpha05", "did you mean _alpha05"]),
        ("MetaKD_2epochs_2epochs", ["_2epochs twice"]),
        ("MetaKD_2epochs_3epochs", ["_2epochs and _3epochs contradict each other"]),
        ("MetaKD_seed1_alpha05_seed2", ["_seed1 and _seed2 contradict each other"]),
        ("MetaKD_0epochs", ["in _0epochs the number is out of its range: expected 1 to 999999 epochs"]),
        ("MetaKD_999999999999epochs", ["in _999999999999epochs the number is out of its range"]),
        ("MetaKD_alpha05_1000000iters", ["in _1000000iters the number is out of its range"]),
        ("MetaKD_seed01", ["in _seed01 the number is out of its range", "a seed from 0 to 999999999"]),
        ("Specialist_t1_2epochs_3epochs", ["_2epochs and _3epochs contradict each other"]),
        ("Specialist_t1_0epochs", ["in _0epochs the number is out of its range"]),
        ("PASSION_RFNet_onlyPixel", ["did you mean _onlypixel"]),
    ],
)
def test_an_ending_that_cannot_be_one_is_told_from_those_there_are(
    name: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", trainer_folder())
    with pytest.raises(InputError) as error:
        find_trainer(f"nnUNetTrainer{name}")
    assert all(word in str(error.value) for word in words)


def test_no_ending_is_the_tag_of_a_table() -> None:
    for ending in known_endings():
        with pytest.raises(InputError, match="take another tag"):
            check_tag(ending[1:])
    check_tag("mr2468")


def test_tables_of_the_same_name_and_endings_that_nothing_explains(tmp_path: Path) -> None:
    trainer = resolved("nnUNetTrainerMetaKD", "_alpha05")
    refuse_ambiguous(trainer, tmp_path)
    (tmp_path / "mmkd_missing_alpha05.json").write_text("{}")
    with pytest.raises(InputError, match=r"mmkd_missing_alpha05\.json.* rename"):
        refuse_ambiguous(trainer, tmp_path)
    with pytest.raises(InputError, match=r"_alfa05 is neither .*did you mean _alpha05.*mmkd_missing_alfa05\.json"):
        refuse_unknown(resolved("nnUNetTrainerMetaKD", "_alfa05"), tmp_path)
    (tmp_path / "mmkd_missing_alfa05.json").write_text("{}")
    refuse_unknown(resolved("nnUNetTrainerMetaKD", "_alfa05"), tmp_path)
