"""A run that is killed and resumed equals an uninterrupted one; what the checkpoint holds."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from full_disk import small_files_only
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tiny_nnunet import Home, differences, inline_pools, set_variables, start, steps

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.methods.acn import ACNConfig
from nnunetv2_mmkd.methods.auxiliary import AuxiliaryConfig
from nnunetv2_mmkd.methods.lckd_config import LCKDConfig
from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.methods.mst_kdnet_config import MSTKDNetConfig
from nnunetv2_mmkd.methods.passion import PASSIONConfig
from nnunetv2_mmkd.methods.pmr import PMRConfig
from nnunetv2_mmkd.methods.shaspec import ShaSpecConfig
from nnunetv2_mmkd.methods.simmlm import SimMLMConfig
from nnunetv2_mmkd.methods.subset_kd import SubsetKDConfig
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerACN import nnUNetTrainerACN
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerDeMoSeg import nnUNetTrainerDeMoSeg
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerLCKD import nnUNetTrainerLCKD, nnUNetTrainerLCKDSingleTeacher
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerM2FTrans import nnUNetTrainerM2FTrans
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMetaKD import nnUNetTrainerMetaKD
from nnunetv2_mmkd.trainer_variants.nnUNetTrainermmFormer import nnUNetTrainermmFormer
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerModalityDropout import nnUNetTrainerModalityDropout
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerMSTKDNet import nnUNetTrainerMSTKDNet
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPASSION import nnUNetTrainerPASSION_SharedStreams
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPMR import nnUNetTrainerPMR
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerRFNet import nnUNetTrainerRFNet
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerRobustSeg import nnUNetTrainerRobustSeg_SFusion
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerShaSpec import nnUNetTrainerShaSpec
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSimMLM import nnUNetTrainerSimMLM
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSMUNet import nnUNetTrainerSMUNet
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerSubsetKD import (
    nnUNetTrainerSubsetKD,
    nnUNetTrainerSubsetKD_MultiStream,
)
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerUHeMIS import nnUNetTrainerUHeMIS
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerUHVED import nnUNetTrainerUHVED
from nnunetv2_mmkd.training.checkpoint import _check_kinds
from nnunetv2_mmkd.training.optimizer import AdamWConfig

EPOCHS, STOP_AFTER = 3, 2
TIMES = ("epoch_start_timestamps", "epoch_end_timestamps")


class SameBatches:
    """Feeds epoch e the e-th batches, whoever asks and whenever the run was started."""

    batches: dict[str, list[list[dict[str, Any]]]]
    remains: Path
    """A copy of the output folder before the last epoch: what a killed run leaves."""

    def apply_suffixes(self) -> None:
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = EPOCHS, 3, 1
        self.save_every = 1

    def on_epoch_start(self) -> None:
        if self.current_epoch == STOP_AFTER and not self.remains.exists():
            shutil.copytree(self.output_folder, self.remains)
        super().on_epoch_start()
        for name, epochs in self.batches.items():
            setattr(self, f"dataloader_{name}", iter(copy.deepcopy(epochs[self.current_epoch])))


class MetaKDRun(SameBatches, nnUNetTrainerMetaKD):
    config = MetaKDConfig(meta_interval=2, meta_steps=2)  # the interval does not divide the epoch
    full_modality_warmup = 0.8  # ends in the resumed part
    warmup_from_iterations = 1


class LCKDRun(SameBatches, nnUNetTrainerLCKD):
    config = LCKDConfig(election_interval=2, least_elections=0, election_share=0.5, most_cases=1)


class LCKDSingleRun(SameBatches, nnUNetTrainerLCKDSingleTeacher):
    config = LCKDConfig(teachers="most_frequent", election_interval=2, least_elections=0, first_election=1)


class MSTKDNetRun(SameBatches, nnUNetTrainerMSTKDNet):
    pass


class MSTKDNetFrozenRun(SameBatches, nnUNetTrainerMSTKDNet):
    config = replace(MSTKDNetConfig.released_code(), teacher="frozen", teacher_share=0.8)  # frozen in the resumed part


class PASSIONRun(SameBatches, nnUNetTrainerPASSION_SharedStreams):
    config = PASSIONConfig(gamma=1.0)


class PMRRun(SameBatches, nnUNetTrainerPMR):
    config = PMRConfig(early_share=0.8)  # ends in the resumed part


class MMFormerRun(SameBatches, nnUNetTrainermmFormer):
    pass


class RFNetRun(SameBatches, nnUNetTrainerRFNet):
    config = AuxiliaryConfig(warmup_share=0.8)  # ends in the resumed part


class M2FTransRun(SameBatches, nnUNetTrainerM2FTrans):
    adamw = AdamWConfig()


class ShaSpecRun(SameBatches, nnUNetTrainerShaSpec):
    config = ShaSpecConfig.released_code()


class DeMoSegRun(SameBatches, nnUNetTrainerDeMoSeg):
    pass


class ACNRun(SameBatches, nnUNetTrainerACN):
    suffix_names = ("t1", "t1ce")
    config = ACNConfig(ramp=0.8)  # rises over the stop


class SMUNetRun(SameBatches, nnUNetTrainerSMUNet):
    suffix_names = ("t1",)


class UHeMISRun(SameBatches, nnUNetTrainerUHeMIS):
    pass


class UHVEDRun(SameBatches, nnUNetTrainerUHVED):
    pass


class RobustSegRun(SameBatches, nnUNetTrainerRobustSeg_SFusion):
    pass


class SubsetKDRun(SameBatches, nnUNetTrainerSubsetKD):
    config = SubsetKDConfig(ramp=(0.2, 0.8), window=0.5)  # rises over the stop


class SubsetKDStreamsRun(SameBatches, nnUNetTrainerSubsetKD_MultiStream):
    config = SubsetKDConfig(ramp=(0.2, 0.8), distance="kl", window=0.5)


class SimMLMRun(SameBatches, nnUNetTrainerSimMLM):
    config = SimMLMConfig(independent_share=0.8)  # ends in the resumed part


class ControlRun(SameBatches, nnUNetTrainerModalityDropout):
    pass


class RankedRun(SameBatches, nnUNetTrainerModalityDropout):
    ranking = 0.1


RUNS = [
    MetaKDRun,
    LCKDRun,
    LCKDSingleRun,
    MSTKDNetRun,
    MSTKDNetFrozenRun,
    PASSIONRun,
    PMRRun,
    ControlRun,
    RankedRun,
    SimMLMRun,
    MMFormerRun,
    RFNetRun,
    M2FTransRun,
    ShaSpecRun,
    DeMoSegRun,
    ACNRun,
    SMUNetRun,
    UHeMISRun,
    UHVEDRun,
    RobustSegRun,
    SubsetKDRun,
    SubsetKDStreamsRun,
]
QUICK = (MetaKDRun, LCKDRun, MSTKDNetRun, PASSIONRun, ControlRun, RFNetRun, SubsetKDRun)


@pytest.fixture(scope="module")
def batches(session_home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[dict[str, Any]]]]:
    """Batches of every epoch, from all loaders of a trainer."""
    with pytest.MonkeyPatch.context() as patch:
        set_variables(patch, session_home, tmp_path_factory.mktemp("source"))
        inline_pools(patch)
        source = start(session_home.trainer(nnUNetTrainerMetaKD, session_home.dataset(2), "2d"))
        loaders = ((source.dataloader_train, "train", 3), (source.dataloader_val, "val", 1))
        loaders += ((source.dataloader_meta, "meta", 6),)
        return {name: [[next(loader) for _ in range(n)] for _ in range(EPOCHS)] for loader, name, n in loaders}


@pytest.mark.parametrize(
    "trainer_class",
    [found if found in QUICK else pytest.param(found, marks=pytest.mark.slow) for found in RUNS],
    ids=lambda c: c.__name__,
)
def test_resumed_equals_uninterrupted(
    home: Home,
    trainer_class: type,
    batches: dict[str, list[list[dict[str, Any]]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_figures: None,
) -> None:
    monkeypatch.setattr(trainer_class, "batches", batches, raising=False)
    monkeypatch.setattr(trainer_class, "remains", tmp_path / "remains", raising=False)
    final = {}
    for run in ("whole", "resumed"):
        monkeypatch.setenv("nnUNet_results", str(tmp_path / run))
        torch.manual_seed(1 if run == "whole" else 99)  # a new process starts with another state
        np.random.seed(1 if run == "whole" else 99)
        trainer = home.trainer(trainer_class, home.dataset(2), "2d")
        folder = Path(trainer.output_folder)
        if run == "resumed":
            shutil.copytree(tmp_path / "remains", folder, dirs_exist_ok=True)
            trainer.load_checkpoint(str(folder / "checkpoint_latest.pth"))
            assert trainer.current_epoch == STOP_AFTER and trainer.run.iteration == 3 * STOP_AFTER
        trainer.run_training()
        assert not list(folder.glob("*.tmp*")) and not list(folder.glob(".*tmp"))
        final[run] = torch.load(folder / "checkpoint_final.pth", weights_only=False)
        for key in TIMES:
            final[run]["logging"].pop(key)
    whole, resumed = final["whole"], final["resumed"]
    for part in ("network_weights", "optimizer_state", "mmkd", "logging", "_best_ema", "current_epoch"):
        assert differences(whole[part], resumed[part], part) == []
    assert whole["mmkd"]["iteration"] == 3 * EPOCHS
    assert all(len(values) == EPOCHS for values in whole["logging"].values())
    if trainer_class is MetaKDRun:
        assert whole["mmkd"]["method"]["meta_updates"] == 10  # 2 at each of the iterations 0, 2, 4, 6, 8
        adam = whole["mmkd"]["method"]["importance"]["optimizer"]["state"][0]
        assert float(adam["step"]) == 10 and adam["exp_avg"].abs().sum() > 0
    if trainer_class in (LCKDRun, LCKDSingleRun):
        elections = whole["mmkd"]["method"]["elections"]
        first = trainer_class.config.first_election
        assert [election["iteration"] for election in elections] == list(range(first, 3 * EPOCHS, 2))
        assert not torch.equal(elections[0]["dice"], elections[-1]["dice"])
        assert whole["logging"]["mmkd/elections/so far"][-1] == len(elections)
    if trainer_class in (MMFormerRun, RFNetRun, M2FTransRun):
        own = whole["mmkd"]["method"]["decoder"]
        assert {f"decoder.{key}" for key in own} == {
            key for key in whole["network_weights"] if key.startswith("decoder.") and ".encoder." not in key
        }
        assert len(whole["optimizer_state"]["param_groups"]) == 2
    if trainer_class in (MSTKDNetRun, MSTKDNetFrozenRun):
        moments = whole["mmkd"]["method"]["discriminator_optimizer"]["state"][0]
        assert float(moments["step"]) == (9 if trainer_class is MSTKDNetRun else 2)
        assert whole["mmkd"]["method"]["teacher"].keys() == whole["network_weights"].keys()
    if trainer_class in (SubsetKDRun, SubsetKDStreamsRun):
        own = whole["mmkd"]
        assert own["method"]["updates"] == own["iteration"]
        assert differences(own["method"]["ema"], whole["network_weights"]) == []
        assert differences(own["network"], whole["network_weights"]) != []
        weights = whole["logging"]["mmkd/weight/distillation"]
        assert weights[0] < weights[1] < weights[2]
    if trainer_class is PASSIONRun:
        method = whole["mmkd"]["method"]
        assert not torch.equal(method["beta"], method["start"])


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, (str, int)) and plain(entry) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return all(plain(entry) for entry in value)
    return value is None or type(value) in (torch.Tensor, int, float, str, bool)


@pytest.mark.parametrize(
    "trainer_class", [nnUNetTrainerMetaKD, nnUNetTrainerLCKD, nnUNetTrainerMSTKDNet], ids=lambda c: c.__name__
)
def test_the_checkpoint_has_one_plain_key_more_than_nnunets(home: Home, trainer_class: type, tmp_path: Path) -> None:
    ours, stock = start(home.trainer(trainer_class)), start(home.trainer(nnUNetTrainer))
    steps(ours, [next(ours.dataloader_train)])
    for name, trainer in (("ours", ours), ("stock", stock)):
        trainer.save_checkpoint(str(tmp_path / f"{name}.pth"))
    saved, host = (torch.load(tmp_path / f"{name}.pth", weights_only=False) for name in ("ours", "stock"))
    assert saved.keys() - host.keys() == {"mmkd"} and not host.keys() - saved.keys()
    assert plain(saved["mmkd"])
    torch.save(saved["mmkd"], tmp_path / "key.pth")
    torch.load(tmp_path / "key.pth", weights_only=True)
    assert not any("importance" in key for key in saved["network_weights"])


def test_an_interrupted_save_keeps_the_old_checkpoint(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = start(home.trainer(nnUNetTrainerModalityDropout))
    file = tmp_path / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(file))
    before = file.read_bytes()

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match=r"cannot write .*checkpoint_latest\.pth: no space"),
    ):
        patch.setattr(trainer.sampler, "state_dict", Mock(side_effect=OSError("no space left on device")))
        trainer.save_checkpoint(str(file))
    assert file.read_bytes() == before and list(tmp_path.glob("*checkpoint_latest*")) == [file]
    with (
        small_files_only(len(before) // 2),
        pytest.raises(InputError, match=r"cannot write .*latest\.pth: .*Free space"),
    ):
        trainer.save_checkpoint(str(file))
    assert file.read_bytes() == before and list(tmp_path.glob("*checkpoint_latest*")) == [file]


DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no logging": (lambda c: c.pop("logging"), "has no 'logging'"),
    "logging of another kind": (lambda c: c.update(logging=[1]), "'logging' is a list: expected an object"),
    "logging without a curve": (lambda c: c["logging"].pop("lrs"), "logging has no 'lrs': expected a list"),
    "a curve of words": (lambda c: c["logging"].update(lrs=["x"]), "logging: 'lrs' is not a number for each of 1"),
    "a curve that is too long": (lambda c: c["logging"].update(lrs=[0.1] * 7), "logging: 'lrs' is not a number"),
    "our curve too long": (lambda c: c["logging"].update({"mmkd/x": [0.1] * 7}), "logging: 'mmkd/x' is not a number"),
    "the best of words": (lambda c: c.update(_best_ema="x"), "'_best_ema' is no number"),
    "no epoch": (lambda c: c.update(current_epoch="x"), "'current_epoch' is text: expected a whole number"),
    "an epoch before the first": (lambda c: c.update(current_epoch=-1), "'current_epoch' cannot be restored"),
    "no iteration": (lambda c: c["mmkd"].update(iteration=-1), "'iteration' or 'random_state'"),
    "another random state": (lambda c: c["mmkd"].update(random_state=torch.zeros(3, dtype=torch.uint8)), "'random_st"),
    "a state of another kind": (lambda c: c.update(mmkd=[1]), "'mmkd' is a list: expected an object"),
    "no sampler": (lambda c: c["mmkd"].pop("sampler"), "mmkd has no 'sampler'"),
    "a sampler of another kind": (lambda c: c["mmkd"].update(sampler=3), "cannot be restored"),
    "a method of another kind": (lambda c: c["mmkd"].update(method=3), "cannot be restored"),
    "a table of another kind": (lambda c: c["mmkd"].update(missing_table=3), "'missing_table' is a whole number"),
    "a table of nothing": (lambda c: c["mmkd"].update(missing_table={}), "'missing_table' has no 'missing'"),
    "a table of words": (lambda c: c["mmkd"].update(missing_table={"missing": {"a": "t1"}}), "'a' is text"),
    "no optimiser": (lambda c: c.update(optimizer_state=None), "'optimizer_state' is null: expected an object"),
    "an optimiser without momentum": (lambda c: c["optimizer_state"]["param_groups"][0].pop("momentum"), "'momentum'"),
    "momentum of words": (lambda c: c["optimizer_state"]["param_groups"][0].update(momentum="x"), "momentum is of an"),
    "moments of another shape": (
        lambda c: c["optimizer_state"]["state"].update({0: {"momentum_buffer": torch.zeros(7)}}),
        "momentum_buffer has the shape (7,) instead of",
    ),
    "moments that are infinite": (
        lambda c: c["optimizer_state"]["state"][0]["momentum_buffer"].fill_(torch.inf),
        "optimizer, 0, momentum_buffer is NaN or infinite",
    ),
    "another optimiser": (lambda c: c["optimizer_state"].update(param_groups=[]), "cannot be restored"),
}


def test_a_state_of_another_kind_is_refused() -> None:
    now = {"beta": torch.zeros(3), "known": None, "updates": 2, "teacher": {"weight": torch.zeros(1)}, "elections": []}
    _check_kinds(now, {**now, "beta": None, "known": 3}, "method")
    for key, value, message in (
        ("beta", torch.zeros(4), "beta has the shape"),
        ("beta", [0.0], "beta is of another kind"),
        ("updates", "2", "updates is of another kind"),
        ("teacher", [], "teacher is of another kind"),
        ("teacher", {"weight": 1}, "teacher, weight is of another kind"),
        ("elections", 3, "elections is of another kind"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"method, {message}"):
            _check_kinds(now, {**now, key: value}, "method")


def test_a_damaged_checkpoint_is_refused_by_key(home: Home, tmp_path: Path) -> None:
    trainer = start(home.trainer(nnUNetTrainerModalityDropout))
    steps(trainer, [next(trainer.dataloader_train)])
    file = tmp_path / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(file))
    for name, (edit, message) in DAMAGED.items():
        content = torch.load(tmp_path / "checkpoint_latest.pth", weights_only=False)
        edit(content)
        torch.save(content, tmp_path / "damaged.pth")
        with pytest.raises(InputError) as error:
            trainer.load_checkpoint(str(tmp_path / "damaged.pth"))
        assert str(error.value).startswith(f"{tmp_path / 'damaged.pth'}") and message in str(error.value), name


def test_checkpoint_of_a_stock_trainer_is_refused(home: Home, tmp_path: Path) -> None:
    stock = start(home.trainer(nnUNetTrainer))
    stock.save_checkpoint(str(tmp_path / "stock.pth"))
    with pytest.raises(InputError, match="was written by nnUNetTrainer, not by a trainer of nnunetv2-mmkd"):
        home.trainer(nnUNetTrainerModalityDropout).load_checkpoint(str(tmp_path / "stock.pth"))


def test_curves_that_an_older_checkpoint_lacks_are_nan_and_the_best_epoch_is_known(home: Home, tmp_path: Path) -> None:
    """nnU-Net saves the latest checkpoint before it looks whether the epoch was the best."""
    trainer = start(home.trainer(nnUNetTrainerModalityDropout))
    trainer.current_epoch = 2
    trainer.save_checkpoint(str(tmp_path / "old.pth"))
    old = torch.load(tmp_path / "old.pth", weights_only=False)
    old["logging"] = {k: [0.5] * 3 for k in old["logging"] if not k.startswith("mmkd/")}
    old["logging"]["ema_fg_dice"], old["_best_ema"] = [0.3, 0.5, 0.4], 0.3
    torch.save(old, tmp_path / "old.pth")
    resumed = home.trainer(nnUNetTrainerModalityDropout)
    resumed.load_checkpoint(str(tmp_path / "old.pth"))
    resumed.on_train_start()
    assert resumed._best_ema == 0.5
    curves = {key: values for key, values in resumed.curves.values.items() if key.startswith("mmkd/")}
    assert set(curves) == {"mmkd/pseudo Dice/all modalities", "mmkd/pseudo Dice/subset law", "mmkd/loss/task"}
    assert all(len(values) == 3 and np.isnan(values).all() for values in curves.values())
