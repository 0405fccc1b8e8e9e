"""What a metric is, as data: :class:`MetricSpec`, and how its values are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nnunetv2_mmkd.evaluation.metrics.mask_pair import MaskPair

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class MetricParameter:
    """A number that a metric takes besides the masks; ``mmkd evaluate`` gets a flag ``--<name>`` for it.

    Attributes:
        name: of the flag and of the function's keyword.
        default: value.
        unit: of the value, e.g. ``"mm"``.
        help: for the flag.
        least: smallest value allowed.
    """

    name: str
    default: float
    unit: str
    help: str
    least: float = 0.0


@dataclass(frozen=True)
class MetricSpec:
    """A metric of the result table.

    Attributes:
        name: key in results.
        title: what the reader sees.
        unit: ``"mm"`` or ``""``.
        higher_is_better: direction.
        percent: whether it is a ratio that is shown in per cent.
        function: pair of masks and parameters -> value, with its policy for empty regions; None: not of one pair of
            masks (lesion-wise scores, and names that are not in the registry).
        parameters: keywords of the function.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    percent: bool
    function: Callable[..., float] | None = None
    parameters: tuple[MetricParameter, ...] = ()

    @classmethod
    def ratio(
        cls, name: str, title: str, function: Callable[..., float] | None = None, *more: MetricParameter
    ) -> MetricSpec:
        """A ratio in 0..1, more is better, shown in per cent."""
        return cls(name, title, "", True, True, function, more)

    @classmethod
    def distance(cls, name: str, title: str, function: Callable[..., float] | None = None) -> MetricSpec:
        """A distance in mm, less is better."""
        return cls(name, title, "mm", False, False, function)

    def measure(self, pair: MaskPair, parameters: Mapping[str, float]) -> float:
        """The value of a pair of masks; parameters that are not given have their defaults."""
        if self.function is None:
            raise TypeError(f"{self.name} is no metric of one pair of masks")
        values = {each.name: parameters.get(each.name, each.default) for each in self.parameters}
        return float(self.function(pair, **values))

    @property
    def scale(self) -> float:
        """By what values are multiplied when shown: ratios are shown in per cent."""
        return 100.0 if self.percent else 1.0

    @property
    def shown_unit(self) -> str:
        """``"%"``, ``"mm"`` or ``""``."""
        return "%" if self.percent else self.unit

    @property
    def difference_unit(self) -> str:
        """Unit of a difference: ``"points"`` (of per cent), ``"mm"`` or ``""``."""
        return "points" if self.percent else self.unit

    @property
    def is_score(self) -> bool:
        """Whether 0 is the worst and more is better, as Shapley values need it."""
        return self.percent and self.higher_is_better

    def label(self, prefix: str = "") -> str:
        """Title and unit.

        >>> MetricSpec.distance("hd95", "HD95").label("Change of ")
        'Change of HD95 (mm)'
        """
        title = prefix + self.title
        return f"{title} ({self.shown_unit})" if self.shown_unit else title

    def text(self, value: float, signed: bool = False) -> str:
        """A value as a figure shows it, one decimal in per cent and mm, with a true minus.

        >>> MetricSpec.ratio("dice", "Dice").text(0.8766)
        '87.7'

        Args:
            value: in the unit of the metric.
            signed: also a plus.
        """
        shown = value * self.scale
        text = f"{shown:.1f}" if self.percent or self.unit else f"{shown:.3g}"
        if float(text) == 0.0:
            return text.removeprefix("-")
        return ("+" if signed and shown > 0 else "") + text.replace("-", MINUS)
