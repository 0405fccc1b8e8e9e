"""The ranking loss of SimMLM: more modalities are not worse than fewer.

Legend: B samples.
"""

from __future__ import annotations

from torch import Tensor


def more_versus_fewer(more: Tensor, fewer: Tensor) -> Tensor:
    r"""By how much a prediction with more modalities is worse than one with fewer of them ("MoFe").

    .. math:: \ell_{MoFe} = \max\big(0,\ \ell_{task}(o^+, y) - \ell_{task}(o^-, y)\big), \qquad S^- \subset S^+

    Both sides have a gradient: where more is worse, its task loss falls and that with fewer rises. Added to both task
    losses with a weight below 1, nobody is trained to be worse: their coefficients are 1 + weight and 1 - weight.
    Where more is better, or as good, value and gradient are 0.

    Args:
        more: task loss of each sample with the larger subset, ``[B]``; a scalar for a whole batch.
        fewer: the same with the smaller one, within the larger.

    Returns:
        scalar, float32, the mean over the samples.

    Raises:
        ValueError: the two are not of one shape.

    References:
        Li et al., SimMLM: A Simple Framework for Multi-modal Learning with Missing Modality, ICCV 2025
        (arXiv 2507.19264), More vs. Fewer ranking loss. The paper has one loss a sample; its released code ranks each
        region, and Dice and cross entropy, by themselves.
    """
    if more.shape != fewer.shape:
        raise ValueError(f"task losses of shapes {tuple(more.shape)} and {tuple(fewer.shape)}: one of each is compared")
    return (more.float() - fewer.float()).clamp_min(0).mean()  # MoFe
