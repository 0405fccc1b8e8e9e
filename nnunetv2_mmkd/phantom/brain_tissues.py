"""Tissues of the brain phantom and the four sequences of a BraTS examination, at 1.5 T.

Sources:
    - Cerebrospinal fluid, grey and white matter: T1, T2 and PD of BrainWeb's tissue table (1.5 T; Kwan, Evans, Pike,
      IEEE TMI 18 (1999) 1085; Collins et al., IEEE TMI 17 (1998) 463).
    - Tumour compartments: representative values, not the measurement of one study. High-grade glioma has
      T1 = 1863 ± 70 ms and the white matter around it 1261 ± 371 ms at 3 T (magnetic resonance fingerprinting, de
      Blank et al., J Neurosurg Pediatr 2019); T1 is shorter by about a quarter at 1.5 T, and spin-echo T2 is longer
      than T2 by fingerprinting (115-225 ms in glioma). Non-enhancing core and enhancing tumour are chosen close
      together on purpose: without contrast agent they are told apart only modestly.
    - What fills a resection cavity or a cyst: between fluid and edema, by choice.
    - Contrast agent: gadobutrol, see :data:`nnunetv2_mmkd.phantom.physics.GADOBUTROL_R1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from nnunetv2_mmkd.phantom.physics import InversionRecovery, Sequence, SpinEcho, Tissue, nulling_ti


class BrainLabel(IntEnum):
    """Values of the tissue map."""

    BACKGROUND = 0
    CSF = 1
    GREY = 2
    WHITE = 3
    EDEMA = 4
    CORE = 5
    ENHANCING = 6
    CAVITY = 7


BRAIN_TISSUES: Mapping[BrainLabel, Tissue] = {
    BrainLabel.CSF: Tissue(t1=2569, t2=329, pd=1.00),
    BrainLabel.GREY: Tissue(t1=833, t2=83, pd=0.86),
    BrainLabel.WHITE: Tissue(t1=500, t2=70, pd=0.77),
    BrainLabel.EDEMA: Tissue(t1=1100, t2=150, pd=0.93),
    BrainLabel.CORE: Tissue(t1=1420, t2=135, pd=0.94),
    BrainLabel.ENHANCING: Tissue(t1=1300, t2=125, pd=0.93),
    BrainLabel.CAVITY: Tissue(t1=2100, t2=250, pd=0.98),
}
"""Relaxation without contrast agent."""

BRAIN_CONCENTRATION = 0.5
"""Gadobutrol in enhancing tumour, mmol/L, averaged over the tumour."""

BRAIN_VALUES: Mapping[BrainLabel, int] = {
    BrainLabel.EDEMA: 1,
    BrainLabel.CORE: 2,
    BrainLabel.ENHANCING: 3,
    BrainLabel.CAVITY: 4,
}
"""Tissue -> nnU-Net's label in every edition of BraTS (:mod:`nnunetv2_mmkd.editions.brats`)."""

T1W = SpinEcho(tr=600, te=12)
T2W = SpinEcho(tr=4500, te=100)
FLAIR = InversionRecovery(tr=9000, te=120, ti=nulling_ti(BRAIN_TISSUES[BrainLabel.CSF].t1, tr=9000, te=120))

BRAIN_SEQUENCES: Mapping[str, Sequence] = {"t1": T1W, "t1ce": T1W, "t2": T2W, "flair": FLAIR}
"""The sequence of each modality, in BraTS order; T1ce is the T1w sequence after the contrast agent."""

BRAIN_MODALITIES: tuple[str, ...] = tuple(BRAIN_SEQUENCES)
