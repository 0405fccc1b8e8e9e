"""The trainings of test_two_ranks.py, a method each on a tiny network, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from fusion_networks import network as fusion_network
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn

from nnunetv2_mmkd.methods.acn import ACN
from nnunetv2_mmkd.methods.auxiliary import Auxiliary, AuxiliaryConfig
from nnunetv2_mmkd.methods.base import (
    Batch,
    ExtraNetwork,
    FeatureWidth,
    FullModalityNetwork,
    LocalLoss,
    MembershipClasses,
    Method,
    MissingRates,
    NextMetaBatch,
    SingleModalityDice,
)
from nnunetv2_mmkd.methods.demoseg import DeMoSeg
from nnunetv2_mmkd.methods.lckd import LCKD
from nnunetv2_mmkd.methods.lckd_config import LCKDConfig
from nnunetv2_mmkd.methods.metakd import MetaKD
from nnunetv2_mmkd.methods.metakd_config import MetaKDConfig
from nnunetv2_mmkd.methods.modality_dropout import ModalityDropout
from nnunetv2_mmkd.methods.mst_kdnet import MSTKDNet
from nnunetv2_mmkd.methods.mst_kdnet_config import MSTKDNetConfig
from nnunetv2_mmkd.methods.passion import PASSION, PASSIONConfig
from nnunetv2_mmkd.methods.pmr import PMR
from nnunetv2_mmkd.methods.robust_seg import RobustSeg
from nnunetv2_mmkd.methods.shaspec import ShaSpec
from nnunetv2_mmkd.methods.simmlm import SimMLM
from nnunetv2_mmkd.methods.smunet import SMUNet
from nnunetv2_mmkd.methods.subset_kd import SubsetKD, SubsetKDConfig
from nnunetv2_mmkd.methods.uhved import UHVED
from nnunetv2_mmkd.networks.availability import condition_norms
from nnunetv2_mmkd.networks.decoupled import DecoupledUNet
from nnunetv2_mmkd.networks.dedicated import DedicatedUNet, StyleUNet
from nnunetv2_mmkd.networks.experts import Gate, GatedExperts
from nnunetv2_mmkd.networks.fusion.gated import GatedFusion
from nnunetv2_mmkd.networks.fusion.hemis import HeMISFusion
from nnunetv2_mmkd.networks.fusion.hved import HVEDFusion
from nnunetv2_mmkd.networks.fusion.m2ftrans import M2FTransFusion
from nnunetv2_mmkd.networks.fusion.mean_fill import MeanFill
from nnunetv2_mmkd.networks.fusion.mmformer import MMFormerFusion
from nnunetv2_mmkd.networks.fusion.rfnet import RFNetFusion
from nnunetv2_mmkd.networks.fusion.scale_spec import scale_specs
from nnunetv2_mmkd.networks.fusion.sfusion import SFusion
from nnunetv2_mmkd.networks.fusion.shared_specific import SharedSpecificFusion
from nnunetv2_mmkd.networks.lending import lending_order
from nnunetv2_mmkd.networks.masking import mask_inputs
from nnunetv2_mmkd.networks.multi_stream import MultiStreamUNet
from nnunetv2_mmkd.networks.tied import tied_encoders
from nnunetv2_mmkd.networks.transformer_unet import TransformerUNet
from nnunetv2_mmkd.training.election import dice_by_task, from_all_ranks

NAMES = ("t1", "t2", "flair")
FULL = [[True] * 3] * 2
SUBSETS = ([[True, True, False], [True, False, False]], [[False, True, False], [True, True, False]])
"""Of each rank. The third modality occurs on none, the second not in every sample."""

COMPANY = ([[True, False, False], [False, True, False]], [[True, True, True], [False, True, True]])
"""Of each rank: on the first no modality has company, so PASSION has no student there; on the second it has five."""

CASES = 3
"""Election cases."""


# -- networks, batches and losses ------------------------------------------------------------------------------------


def planned(channels: int = 1) -> PlainConvUNet:
    return PlainConvUNet(
        channels, 3, [4, 6, 8], nn.Conv2d, 3, [1, 2, 2], 1, 2, 1, True, nn.InstanceNorm2d, {"affine": True},
        nonlin=nn.LeakyReLU,
    )  # fmt: skip


def tiny_network(shared: bool, own_parts: bool = False) -> MultiStreamUNet:
    first = planned()
    encoders = [first.encoder] if shared else [first.encoder, planned().encoder, planned().encoder]
    fusion = MeanFill(scale_specs(first.encoder, (16, 16), len(NAMES), 3))
    return MultiStreamUNet(tied_encoders(first.encoder, 3) if own_parts else encoders, fusion, first.decoder, NAMES)


def early_fusion_with_norms() -> Any:
    return mask_inputs(condition_norms(planned(3), 3), NAMES, "norms")


def transformer() -> TransformerUNet:
    first = planned(3)
    return TransformerUNet(first.encoder, first.decoder, NAMES, (4, 4))


def a_batch(generator: torch.Generator, masks: Any) -> Batch:
    available = torch.tensor(masks)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    target = torch.randint(0, 2, (2, 16, 16), generator=generator)
    return Batch(images, available, available, target)


def with_channel(batch: Batch) -> Batch:
    """The target as nnU-Net's losses take it."""
    return replace(batch, target=batch.target[:, None])


def deep(batch: Batch) -> Batch:
    """Targets at both scales of deep supervision."""
    return replace(batch, target=[batch.target, batch.target[..., ::2, ::2]])


def deep_loss(outputs: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Cross entropy at both scales of deep supervision."""
    return torch.stack([nn.functional.cross_entropy(*pair) for pair in zip(outputs, targets, strict=True)]).sum()


def batch_dice_loss(exchanges: bool) -> nn.Module:
    """nnU-Net's, with a Dice of the batch, of all ranks if asked for."""
    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": exchanges}
    return DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)


# -- trainings -------------------------------------------------------------------------------------------------------


@dataclass
class Process:
    """A process and the data that it trains on.

    Attributes:
        rank: of the process.
        world: number of processes.
        source: number of the data; the rank, or 0 on all ranks.
        generator: draws images.
        election_cases: those that the process has segmented.
    """

    rank: int
    world: int
    source: int
    generator: torch.Generator = field(init=False)
    election_cases: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.source)

    def batch(self, masks: Any) -> Batch:
        return a_batch(self.generator, masks)


@dataclass
class Training:
    """What is trained.

    Attributes:
        network: the network; the same on all ranks.
        method: the training objective.
        capabilities: what the trainer supplies.
        batch: of an iteration.
        loss: the task loss.
        epochs: of ``iterations`` iterations each.
        iterations: in an epoch.
        length: of the training, as the method is told; 0: unknown.
    """

    network: Any
    method: Method
    capabilities: dict[type, Any]
    batch: Callable[[int], Batch]
    loss: Any = field(default_factory=nn.CrossEntropyLoss)
    epochs: int = 1
    iterations: int = 4
    length: int = 0


def metakd(process: Process, shared: bool) -> Training:
    """A meta-update in each step."""
    meta = {NextMetaBatch: lambda: process.batch(FULL)}
    method = MetaKD(MetaKDConfig(meta_interval=1, meta_steps=2))
    return Training(tiny_network(shared), method, meta, lambda _: process.batch(SUBSETS[process.source]))


def lckd(process: Process) -> Training:
    """An election before each step; the ranks share the election cases."""
    network = tiny_network(True)
    voting = [a_batch(torch.Generator().manual_seed(seed), FULL) for seed in (7, 8)]
    images, truth = (torch.cat([getattr(batch, part) for batch in voting])[:CASES] for part in ("images", "target"))

    @torch.no_grad()
    def single_modality_dice(**_: Any) -> Tensor:
        rows = {}
        for case in range(process.rank, CASES, process.world):
            process.election_cases.append(case)
            logits = [network(images[case][None], torch.eye(len(NAMES)).bool()[m])[0] for m in range(len(NAMES))]
            rows[str(case)] = torch.stack([dice_by_task(each, truth[case], [(1,)], regions=False) for each in logits])
        rows = from_all_ranks(rows)
        return torch.stack([rows[str(case)] for case in range(CASES)])

    return Training(
        network,
        LCKD(LCKDConfig(alpha=1.0, election_interval=1)),
        {SingleModalityDice: single_modality_dice},
        lambda iteration: process.batch(SUBSETS[process.source] if iteration % 2 else FULL),
    )


def mst_kdnet(process: Process) -> Training:
    return Training(
        transformer(),
        MSTKDNet(MSTKDNetConfig()),
        {ExtraNetwork: transformer},
        lambda _: process.batch(SUBSETS[process.source]),
    )


def shaspec(process: Process) -> Training:
    network = fusion_network(SharedSpecificFusion)
    return Training(
        network,
        ShaSpec(),
        {FeatureWidth: lambda: network.width},
        lambda _: deep(process.batch(SUBSETS[process.source])),
        deep_loss,
    )


def demoseg(process: Process) -> Training:
    first = planned(3)
    network = DecoupledUNet(first.encoder, first.decoder, NAMES, lending_order(NAMES, {}))
    return Training(network, DeMoSeg(), {}, lambda _: process.batch(SUBSETS[process.source]))


def co_training(process: Process, method: Callable[[], Method], kind: Any) -> Training:
    """For the first modality, which all have."""

    def make(subset: tuple[str, ...]) -> Any:
        first = planned(len(subset) or 3)
        return kind(first.encoder, first.decoder, NAMES, subset)

    masks = [[[True, True, False], [True, True, True]], [[True, False, False], [True, True, True]]]
    teacher = {FullModalityNetwork: partial(make, ())}
    return Training(make(NAMES[:1]), method(), teacher, lambda _: process.batch(masks[process.source]), length=4)


def backbone(process: Process, fusion: Any) -> Training:
    """Two of four steps are warm-up, which leaves the decoder alone."""
    make = partial(fusion_network, fusion)
    return Training(
        make(),
        Auxiliary(AuxiliaryConfig(warmup_share=0.5)),
        {ExtraNetwork: make},
        lambda _: deep(process.batch(SUBSETS[process.source])),
        deep_loss,
        length=4,
    )


def task_alone(process: Process, fusion: Any) -> Training:
    """Fusions that are trained by the task loss; one modality occurs on no rank."""
    return Training(
        fusion_network(fusion), ModalityDropout(), {}, lambda _: deep(process.batch(SUBSETS[process.source])), deep_loss
    )


def reconstructing(process: Process, method: Any, fusion: Any) -> Training:
    """Methods with a decoder of images for each modality; one modality occurs on no rank."""
    make = partial(fusion_network, fusion)
    return Training(
        make(), method(), {ExtraNetwork: make}, lambda _: deep(process.batch(SUBSETS[process.source])), deep_loss
    )


def subset_kd(process: Process, make: Callable[[], Any]) -> Training:
    return Training(
        make(),
        SubsetKD(SubsetKDConfig(ramp=(0.0, 0.5), window=0.4)),
        {
            ExtraNetwork: make,
            MembershipClasses: lambda target: (target, 2),
            MissingRates: lambda: (0.0, 0.5, 0.2),
        },
        lambda _: process.batch(SUBSETS[process.source]),
        length=4,
    )


def passion(process: Process) -> Training:
    return Training(
        tiny_network(True),
        PASSION(PASSIONConfig(gamma=1.0)),
        {MissingRates: lambda: (0.5, 0.0, 0.75), MembershipClasses: lambda target: (target, 2)},
        lambda _: process.batch(SUBSETS[process.source]),
        epochs=2,
        iterations=2,
    )


def regularised_passion(process: Process, config: PASSIONConfig, recomputes: bool) -> Training:
    """The modalities alone get nnU-Net's loss, where the fused one is over all ranks."""
    method = PASSION(config)
    method.recomputes = recomputes
    return Training(
        tiny_network(True),
        method,
        {
            MissingRates: lambda: (0.5, 0.0, 0.75),
            MembershipClasses: lambda target: (target[:, 0], 2),
            LocalLoss: batch_dice_loss(False),
        },
        lambda iteration: with_channel(process.batch(COMPANY[(process.source + iteration) % 2])),
        batch_dice_loss(process.world > 1),
        iterations=2,
    )


def pmr(process: Process) -> Training:
    make = partial(fusion_network, MMFormerFusion)
    return Training(
        make(),
        PMR(),
        {
            ExtraNetwork: make,
            MembershipClasses: lambda target: (target[0][:, 0], 2),
            LocalLoss: DeepSupervisionWrapper(batch_dice_loss(False), (0.7, 0.3)),
        },
        lambda _: deep(with_channel(process.batch(COMPANY[process.source]))),
        DeepSupervisionWrapper(batch_dice_loss(process.world > 1), (0.7, 0.3)),
        epochs=2,
        iterations=2,
        length=4,
    )


def simmlm(process: Process) -> Training:
    """Two of four steps are the experts' alone."""
    return Training(
        GatedExperts([planned() for _ in NAMES], Gate(3, 2, (16, 16)), NAMES),
        SimMLM(),
        {},
        lambda _: process.batch(SUBSETS[process.source]),
        length=4,
    )


REGULARISED = {
    f"PASSION regularised, {name}{', recomputed' * recomputes}": partial(
        regularised_passion, config=config, recomputes=recomputes
    )
    for name, config in (
        ("paper", PASSIONConfig(regularisation=True)),
        ("released code", PASSIONConfig.released_code()),
    )
    for recomputes in (False, True)
}
TRAININGS: dict[str, Callable[[Process], Training]] = {
    "MetaKD, shared": partial(metakd, shared=True),
    "MetaKD, separate": partial(metakd, shared=False),
    "LCKD": lckd,
    "MST-KDNet": mst_kdnet,
    "mmFormer": partial(backbone, fusion=MMFormerFusion),
    "RFNet": partial(backbone, fusion=RFNetFusion),
    "M2FTrans": partial(backbone, fusion=M2FTransFusion),
    "ShaSpec": shaspec,
    "DeMoSeg": demoseg,
    "ACN": partial(co_training, method=ACN, kind=DedicatedUNet),
    "SMU-Net": partial(co_training, method=SMUNet, kind=StyleUNet),
    "U-HeMIS": partial(task_alone, fusion=HeMISFusion),
    "SFusion": partial(task_alone, fusion=SFusion),
    "U-HVED": partial(reconstructing, method=UHVED, fusion=HVEDFusion),
    "RobustSeg": partial(reconstructing, method=RobustSeg, fusion=GatedFusion),
    "SubsetKD, norms": partial(subset_kd, make=early_fusion_with_norms),
    "SubsetKD, streams": partial(subset_kd, make=partial(tiny_network, True, own_parts=True)),
    "PASSION": passion,
    "PMR": pmr,
    "SimMLM": simmlm,
    **REGULARISED,
}
EXCHANGING = ("PMR", *REGULARISED)
"""Their batch Dice is over all ranks, so two ranks with equal batches do not equal one process."""
