"""Which channel of a model an image belongs to, by the number that its name ends in (``CASE_XXXX``).

The numbers are the keys of ``channel_names``: of the ``dataset.json`` next to the images, where there is one, else of
the model's. Modalities are matched by name, so that a data set with another channel order is read rightly.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.names import channel_suffixes, modality_names
from nnunetv2_mmkd.nnunet_json import DatasetJson, missing_modalities, read_object

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageNaming:
    """How the images for a model are named.

    Attributes:
        modalities: names of its M channels.
        file_ending: e.g. ``".nii.gz"``.
        channels: number in a file's name -> channel.
        source: what says so, for messages.
        unknown: number -> name of a modality that the model does not have.
        missing: case -> modalities that ``source`` declares missing, whatever their images hold.
    """

    modalities: tuple[str, ...]
    file_ending: str
    channels: Mapping[int, int]
    source: str
    unknown: Mapping[int, str]
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def shown(self) -> str:
        """The numbers and their modalities, for messages."""
        return ", ".join(f"_{number:04d} {self.modalities[channel]}" for number, channel in self.channels.items())


def model_naming(modalities: Sequence[str], dataset_json: DatasetJson) -> ImageNaming:
    """The naming of a model's own data set."""
    numbers = {number: channel for channel, number in enumerate(channel_suffixes(dataset_json.content))}
    return ImageNaming(tuple(modalities), dataset_json.file_ending, numbers, "this model", {})


def folder_naming(modalities: Sequence[str], dataset_json: DatasetJson, folder: str) -> ImageNaming:
    """The naming in a folder of images: that of its ``dataset.json`` or its parent's (nnU-Net raw), else the model's.

    Raises:
        InputError: that file is broken, names no modality of the model, or declares an unknown one missing.
    """
    own = model_naming(modalities, dataset_json)
    for place in dict.fromkeys((Path(folder), Path(os.path.abspath(folder)).parent, Path(folder).resolve().parent)):
        file = place / "dataset.json"
        if not os.path.lexists(file):
            continue
        content = read_object(file)
        if "modality" in content and "channel_names" not in content:  # version 1; nnU-Net takes it as well
            content = {**content, "channel_names": content["modality"]}
        if "channel_names" not in content:
            continue
        names = modality_names(content, file)
        named = dict(zip(channel_suffixes(content), names, strict=True))
        channels = {number: own.modalities.index(name) for number, name in named.items() if name in own.modalities}
        declared = missing_modalities(content, names, where=file)
        missing = {case: [name for name in gone if name in own.modalities] for case, gone in declared.items()}
        if channels == own.channels and len(named) == len(channels):
            return replace(own, missing=missing)
        unknown = {number: name for number, name in named.items() if name not in own.modalities}
        naming = ImageNaming(own.modalities, own.file_ending, channels, str(file), unknown, missing)
        if not channels:
            raise InputError(
                f"{file} names the modalities {', '.join(names)}, and this model has "
                f"{', '.join(own.modalities)}: images are matched by name. Correct channel_names, or keep the images "
                "in a folder without this file"
            )
        log.warning("%s has other channels than the model; images are matched by name: %s", file, naming.shown())
        return naming
    return own
