"""Distillation of attention maps through their extreme values.

Everything is computed in float32, outside autocast.

Legend: B batch, H heads, N tokens, T layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

OVER = ("heads", "layers")


def extreme_values(attention: Sequence[Tensor], over: str = "heads") -> list[Tensor]:
    r"""Attention maps multiplied with their maximum, minimum and mean.

    .. math:: EV_1 = \max(A) \cdot A, \quad EV_2 = \min(A) \cdot A, \quad EV_3 = \operatorname{mean}(A) \cdot A

    with A scaled by N, so that its mean is 1 whatever the number of tokens.

    Example:
        >>> even = torch.full((1, 2, 4, 4), 0.25)  # four tokens, attended to alike
        >>> [values.shape for values in extreme_values([even])], float(extreme_values([even])[0].mean())
        ([torch.Size([3, 1, 2, 4, 4])], 1.0)

    Args:
        attention: T times ``[B, H, N, N]``, probabilities.
        over: ``"heads"`` (axis 1, as printed) or ``"layers"`` (the released code): where extremes and mean are taken.

    Returns:
        for each layer ``[3, B, H, N, N]``.

    Raises:
        ValueError: unknown ``over``.

    References:
        Zhu et al., MST-KDNet, Eqs. (2) and (3).
    """
    if over not in OVER:
        raise ValueError(f"extremes are taken over {' or '.join(OVER)}, not {over!r}")
    scaled = torch.stack([each.float() * each.shape[-1] for each in attention])  # [T, B, H, N, N]
    axis = 2 if over == "heads" else 0
    extremes = torch.stack([scaled.amax(axis, True), scaled.amin(axis, True), scaled.mean(axis, keepdim=True)])
    return list((extremes * scaled).unbind(1))


def extreme_value_distance(
    teacher: Sequence[Tensor], student: Sequence[Tensor], over: str = "heads", relative: bool = False
) -> Tensor:
    r"""Mean squared difference of :func:`extreme_values`, summed over the three kinds and the layers.

    Example:
        >>> even, sharp = torch.full((1, 2, 4, 4), 0.25), torch.eye(4).expand(1, 2, 4, 4)
        >>> extreme_value_distance([even], [even]), extreme_value_distance([even], [sharp])
        (tensor(0.), tensor(171.))

    Args:
        teacher: T attention maps ``[B, H, N, N]``.
        student: of the same shapes.
        over: see :func:`extreme_values`.
        relative: divide each layer by the mean square of the teacher's values, which is 1 while its attention is
            uniform. Attention that settles on few tokens otherwise makes the distance grow with up to N^3, past all
            other terms.

    References:
        Zhu et al., MST-KDNet, Eq. (4), first term.

    Deviations from the paper:
        Its attention is not scaled by N: A is about 1/N, EV about 1/N^2 and the distance about 1/N^4, so that a weight
        would hold for one number of tokens only. A weight w for the unscaled distance is w / N^4 here. It knows no
        relative distance.
    """
    with torch.autocast(student[0].device.type, enabled=False):
        total = student[0].new_zeros((), dtype=torch.float32)
        for target, prediction in zip(extreme_values(teacher, over), extreme_values(student, over), strict=True):
            distance = (target - prediction).square().flatten(1).mean(1).sum()  # Eq. (4)
            total = total + (distance / target.detach().square().mean() if relative else distance)
        return total
