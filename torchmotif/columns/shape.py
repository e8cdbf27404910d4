"""What all columns of an image have in common, and where a fit of them sets out."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.columns.model import Noise

__all__ = ["Shape", "Start"]


@dataclass(frozen=True, eq=False)
class Shape:
    """What all columns of an image have in common."""

    width: Float[Tensor, " 2"]  # standard deviation in pixels along (rows, columns)
    noise: Noise
    # Variance of the columns' elongations over what noise lets expect, at least 1.
    unevenness: Float[Tensor, ""]

    @cached_property
    def widest(self) -> float:
        """The larger of the widths, asked for once."""
        return float(self.width.max())

    def but(self, **changes: Any) -> "Shape":
        """The same with some changes; what an accelerator was asked for of this width is not asked for again."""
        other = replace(self, **changes)
        if "widest" in self.__dict__ and other.width is self.width:
            other.__dict__["widest"] = self.widest
        return other


@dataclass(frozen=True, eq=False)
class Start:
    """Where a fit sets out: from an earlier fit, or from positions alone, with intensities of 0."""

    positions: Float[Tensor, "n 2"]
    intensity: Float[Tensor, " n"]
    spline: Float[Tensor, "a b"] | None = None
    single: Bool[Tensor, " n"] | None = None  # those that tell the common width; by default all
    sure: Bool[Tensor, " n"] | None = None  # those that trials told from their neighbours; by default none

    @staticmethod
    def at(positions: Float[Tensor, "n 2"]) -> "Start":
        """Nothing but positions."""
        return Start(positions, positions.new_zeros(len(positions)).float())
