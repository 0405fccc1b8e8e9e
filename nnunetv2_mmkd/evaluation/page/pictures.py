"""Images as data URIs: WebP, which all browsers read, lossy for grey values and lossless for everything else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

QUALITY = 60
"""WebP's, of grey values: BraTS slices keep what an overlay is looked at for, and take 0.07 bytes a pixel."""


def grey_image(page: NDArray[np.floating], greys: tuple[float, float], size: tuple[int, int]) -> str:
    """Grey values as an image.

    Args:
        page: ``[rows, columns]``.
        greys: what is black, and what is white.
        size: columns and rows of the image.
    """
    low, high = greys
    shades = np.clip((page - low) / (high - low), 0, 1) * 255
    image = Image.fromarray(np.rint(shades).astype(np.uint8))
    return _webp(image if image.size == size else image.resize(size, Image.Resampling.BOX), quality=QUALITY, method=2)


def mask_image(page: NDArray[np.bool_], colour: str, size: tuple[int, int]) -> str:
    """A mask as an image: a colour where it is set, transparent elsewhere.

    Args:
        page: ``[rows, columns]``.
        colour: ``"#rrggbb"``.
        size: columns and rows of the image.
    """
    painted = np.zeros((*page.shape, 4), np.uint8)
    painted[page] = [*(round(255 * part) for part in to_rgb(colour)), 255]
    image = Image.fromarray(painted)
    return _webp(image if image.size == size else image.resize(size, Image.Resampling.NEAREST), lossless=True, method=2)


def figure_image(file: Path, most: int = 1600) -> str:
    """A figure as it was drawn, at most so many pixels wide."""
    with Image.open(file) as image:
        picture = image.convert("RGB")
    if picture.width > most:
        picture = picture.resize((most, round(picture.height * most / picture.width)), Image.Resampling.LANCZOS)
    return _webp(picture, lossless=True, method=2)


def decoded(source: str) -> Image.Image:
    """The image of a data URI."""
    return Image.open(BytesIO(base64.b64decode(source.partition(",")[2])))


def total_size(sources: Sequence[str | None]) -> int:
    """Bytes that data URIs take in the page."""
    return sum(len(source) for source in sources if source is not None)


def _webp(image: Image.Image, **options: object) -> str:
    stream = BytesIO()
    image.save(stream, format="WEBP", **options)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
