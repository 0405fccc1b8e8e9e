"""Classes of voxels from nnU-Net's targets."""

from __future__ import annotations

import torch
from tiny_nnunet import Home, start

from nnunetv2_mmkd.methods.base import MembershipClasses
from nnunetv2_mmkd.trainer_variants.nnUNetTrainerPASSION import nnUNetTrainerPASSION_SharedStreams
from nnunetv2_mmkd.training.target_classes import membership_classes


def test_labels_and_regions_by_hand(home: Home) -> None:
    trainer = home.trainer(nnUNetTrainerPASSION_SharedStreams, home.dataset(3, "classes_ignore"))
    found, number = membership_classes([torch.tensor([[[0, 1, 2, 3]]])], label_manager=trainer.label_manager)
    assert found.tolist() == [[0, 1, 2, -1]] and number == 3
    trainer = home.trainer(nnUNetTrainerPASSION_SharedStreams, home.dataset(3, "regions_ignore"))
    whole, core, ignore = [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]
    found, number = membership_classes(
        torch.tensor([[whole, core, ignore]]).bool(), label_manager=trainer.label_manager
    )
    assert found.tolist() == [[0, 1, 3, -1]] and number == 4


def test_membership_classes_of_nested_regions_are_the_labels(home: Home) -> None:
    """On a real batch: as many classes as the data set has labels."""
    trainer = start(home.trainer(nnUNetTrainerPASSION_SharedStreams, home.dataset(4, "regions")))
    batch = next(trainer.dataloader_train)
    found, number = trainer.method.context.need(MembershipClasses)(batch["target"])
    assert found.shape == batch["target"][0][:, 0].shape and number == 4
    assert set(found.unique().tolist()) <= {0, 1, 3}
