"""A picture by which a person sees whether sequences lie on one another."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import nibabel as nib
import numpy as np
from scipy import ndimage

from nnunetv2_mmkd.evaluation.figures.style import NORMAL, new_figure, plain_style, shown
from nnunetv2_mmkd.geometry import Grid

_PANEL = 2.0
_SMOOTH = 1.5  # mm
_LEVELS = (0.15, 0.6)  # of the reference's contours, as shares of its bright tissue
_COLOURS = ("#56B4E9", "#F0E442")


def check_image(case: str, reference: str, images: Mapping[str, np.ndarray], grid: Grid) -> bytes:
    """A PNG: each sequence in three planes, with contours of the reference over it.

    Args:
        case: its name, for the title.
        reference: the modality whose contours are drawn.
        images: modality -> voxels ``[x, y, z]`` on one grid.
        grid: that grid.
    """
    turned = nib.orientations.io_orientation(grid.affine)
    sizes = np.asarray(grid.spacing)[np.argsort(turned[:, 0]).astype(int)]
    volumes = {name: _turned(voxels, turned) for name, voxels in images.items()}
    lines = ndimage.gaussian_filter(volumes[reference], _SMOOTH / sizes)
    middle = _middle(lines)
    levels = np.array(_LEVELS) * np.quantile(lines[lines > lines.mean()], 0.9)
    extents = np.asarray(lines.shape) * sizes
    heights = [extents[1], extents[2], extents[2]]
    widths = [extents[0], extents[0], extents[1]]
    height = _PANEL * max(high / wide for high, wide in zip(heights, widths, strict=True))
    note = f"Lines are contours of {shown(reference)}: in each row they should follow the same anatomy."
    with plain_style():
        figure = new_figure(3 * _PANEL + 0.3, len(volumes) * height, case, note)
        axes = figure.subplots(len(volumes), 3, squeeze=False)
        for row, (name, voxels) in zip(axes, volumes.items(), strict=True):
            bright = voxels[voxels > voxels.min()]
            white = float(np.quantile(bright, 0.995)) if bright.size else float(voxels.min()) + 1
            for plane, ax in enumerate(row):
                aspect = sizes[2 if plane else 1] / sizes[1 if plane == 2 else 0]
                page, edges = (_page(each, plane, middle) for each in (voxels, lines))
                ax.imshow(page, "gray", vmin=float(voxels.min()), vmax=white, aspect=aspect)
                if edges.max() > levels[0]:
                    ax.contour(edges, levels, colors=_COLOURS, linewidths=0.6)
                ax.set(xticks=[], yticks=[])
            row[0].set_ylabel(shown(name) + (" (reference)" if name == reference else ""), fontsize=NORMAL)
        for mark, x, side in (("R", 0.02, "left"), ("L", 0.98, "right")):
            axes[0, 0].text(
                x, 0.98, mark, transform=axes[0, 0].transAxes, ha=side, va="top", color="white", fontsize=NORMAL
            )
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _turned(voxels: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Axes to the right, anterior, superior."""
    result: np.ndarray = nib.orientations.apply_orientation(voxels, axes).astype(np.float32)
    return result


def _middle(voxels: np.ndarray) -> tuple[int, ...]:
    """A little above the centre of what is bright, where there is most to see."""
    bright = np.nonzero(voxels > voxels.mean())
    return tuple(int(np.median(index)) for index in bright)


def _page(voxels: np.ndarray, plane: int, middle: tuple[int, ...]) -> np.ndarray:
    """Axial, coronal or sagittal, as radiologists see them: the patient's right, or front, at the left."""
    if plane == 0:
        return voxels[::-1, ::-1, middle[2]].T
    return (voxels[::-1, middle[1], ::-1] if plane == 1 else voxels[middle[0], ::-1, ::-1]).T
