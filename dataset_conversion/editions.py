"""The editions, one declarative spec each. To add one, write its spec and list it in :data:`EDITIONS`."""

from __future__ import annotations

from nnunetv2_mmkd.dataset_conversion.spec import Channel, EditionSpec
from nnunetv2_mmkd.errors import InputError

BRATS_CHANNELS = (
    Channel("t1", "T1", ("t1", "t1n")),
    Channel("t1ce", "T1ce", ("t1ce", "t1c", "t1gd")),
    Channel("t2", "T2", ("t2", "t2w")),
    Channel("flair", "FLAIR", ("flair", "t2f")),
)
"""The four sequences of BraTS, in nnU-Net's customary order."""

BRATS2018 = EditionSpec(
    name="brats2018",
    title="BraTS 2018",
    dataset_id=501,
    dataset_name="BraTS2018",
    case_pattern=r"(?i:brats18)_.+_\d+",
    channels=BRATS_CHANNELS,
    # On disk: 1 necrosis and non-enhancing core, 2 edema, 4 enhancing tumour. Here, as in nnU-Net's own BraTS
    # converters, from large to small, because region decoding paints in that order.
    label_map={0: 0, 1: 2, 2: 1, 4: 3},
    regions={"whole_tumor": (1, 2, 3), "tumor_core": (2, 3), "enhancing_tumor": (3,)},
    regions_class_order=(1, 2, 3),
    classes={"edema": 1, "necrosis_non_enhancing": 2, "enhancing": 3},
    reference="https://www.med.upenn.edu/sbia/brats2018/data.html",
    licence="registration with the organisers; free for research; no redistribution",
    citation=(
        "Menze et al., IEEE Transactions on Medical Imaging 2015, doi:10.1109/TMI.2014.2377694",
        "Bakas et al., Scientific Data 2017, doi:10.1038/sdata.2017.117",
        "Bakas et al., arXiv:1811.02629",
    ),
)

EDITIONS: dict[str, EditionSpec] = {spec.name: spec for spec in (BRATS2018,)}
"""All editions, by the name the user types."""


def get_edition(name: str) -> EditionSpec:
    """The edition of a name, in any case.

    Raises:
        InputError: an unknown name.
    """
    spec = EDITIONS.get(name.strip().lower())
    if spec is None:
        raise InputError(f"unknown edition {name!r}: choose from {', '.join(EDITIONS)}")
    return spec
