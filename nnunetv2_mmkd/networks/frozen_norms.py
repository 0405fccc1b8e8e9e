"""Instance norms with the statistics of another pass.

An instance norm takes out whatever factor its input has been multiplied by. With the statistics of a reference pass it
is a fixed affine map, and a factor on the features is seen by what follows.

Legend: B batch, C channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm


class HasModules(Protocol):
    """A module, or what has modules as one."""

    def modules(self) -> Iterator[nn.Module]: ...


class InstanceStatistics:
    """Mean and variance of what came into each instance norm, recorded in one pass and reused in others.

    Example::

        statistics = InstanceStatistics(network)
        with torch.no_grad(), statistics.record():
            network.decode(skips)
        with statistics.reuse():
            network.decode(scaled)

    Norms with running statistics (``track_running_stats``) and other kinds of norms stay as they are.

    Args:
        network: its instance norms take part, at any depth.
    """

    def __init__(self, network: HasModules) -> None:
        self.norms = [
            module
            for module in network.modules()
            if isinstance(module, _InstanceNorm) and not module.track_running_stats
        ]
        self._known: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    @contextmanager
    def record(self) -> Iterator[None]:
        """Note the statistics of the pass within; the pass itself is not changed."""
        self._known.clear()

        def note(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
            self._known.setdefault(module, []).append(_moments(inputs[0].detach()))

        with ExitStack() as stack:
            stack.enter_context(_uncompiled())
            for norm in self.norms:
                stack.callback(norm.register_forward_hook(note).remove)
            yield

    @contextmanager
    def reuse(self) -> Iterator[None]:
        """Normalise by the recorded statistics in the passes within.

        A norm that the recorded pass called several times (a fusion calls its norms for each sample) gets them in the
        same order.

        Raises:
            RuntimeError: a norm is called whose statistics were not recorded.
        """

        calls: Counter[nn.Module] = Counter()

        def normalise(norm: nn.Module, x: Tensor) -> Tensor:
            if norm not in self._known:
                raise RuntimeError("an instance norm is called that the recorded pass did not call")
            moments = self._known[norm][calls[norm] % len(self._known[norm])]
            calls[norm] += 1
            return _affine(norm, x, *moments)

        with ExitStack() as stack:
            stack.enter_context(_uncompiled())
            for norm in self.norms:
                norm.forward = partial(normalise, norm)  # type: ignore[method-assign]
                stack.callback(delattr, norm, "forward")
            yield


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over space, ``[B, C, 1, ...]``, float32."""
    axes = tuple(range(2, x.ndim))
    variance, mean = torch.var_mean(x.float(), axes, correction=0, keepdim=True)
    return mean, variance


def _affine(norm: Any, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` in one pass over x."""
    factor = torch.rsqrt(variance + norm.eps)
    shift: Tensor | float = 0.0
    if norm.weight is not None:
        shape = (1, -1, *[1] * (x.ndim - 2))
        factor, shift = factor * norm.weight.reshape(shape), norm.bias.reshape(shape)
    return torch.addcmul(shift - mean * factor, x.float(), factor).to(x.dtype)


def _uncompiled() -> AbstractContextManager[Any]:
    """Compiled parts run as written while the context lasts: a compiled graph would not call hooks."""
    stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else stance("force_eager")
