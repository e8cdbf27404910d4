"""Where a joint fit sets out, what its columns have in common, and what its steps change."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif.columns._noise import Noise
from torchmotif.columns.model import ImageModel, Pair

__all__ = ["Moving", "Shape", "Start"]


@dataclass(frozen=True, eq=False)
class Shape:
    """What the columns of an image have in common, as tensors on their device."""

    width: Float[Tensor, " 2"]  # standard deviation in pixels along (rows, columns)
    widest: float
    axes: Pair  # pixels along (rows, columns) per unit in which spacings are given
    noise: Noise
    overdispersion: Float[Tensor, ""]
    usual: Float[Tensor, ""]  # upper decile of the intensities; 0 where it is not known

    @staticmethod
    def of(model: ImageModel, faintest: float, device: torch.device) -> "Shape":
        """Of a model whose least intensity is `faintest` times the upper decile."""
        numbers = torch.tensor(
            [*model.width, model.overdispersion, model.faintest / faintest], dtype=torch.float32
        )
        width, over, usual = numbers.to(device, non_blocking=True).split([2, 1, 1])
        side = math.sqrt(model.width[0] * model.width[1])
        axes = model.width[0] / side, model.width[1] / side
        return Shape(width, max(model.width), axes, Noise.of(model.noise, device), over[0], usual[0])


@dataclass(frozen=True, eq=False)
class Start:
    """Where a fit sets out: from an earlier fit, or from positions alone, with intensities of 0."""

    positions: Float[Tensor, "n 2"]
    tile: Int[Tensor, " n"]
    intensity: Float[Tensor, " n"]
    fixed: Bool[Tensor, " n"]  # keep their positions
    single: Bool[Tensor, " n"]  # tell the common width
    resolved: Bool[Tensor, " n"]  # trials told them from their neighbours
    home: Float[Tensor, "n 2"]  # where a mean cell has them; NaN where none does
    spline: Float[Tensor, "t a b"] | None = None

    @staticmethod
    def at(
        positions: Float[Tensor, "n 2"],
        tile: Int[Tensor, " n"],
        fixed: Bool[Tensor, " n"] | None = None,
        home: Float[Tensor, "n 2"] | None = None,
    ) -> "Start":
        """Nothing but positions, of which some, by default none, are fixed, and have a `home`."""
        no = torch.zeros_like(tile, dtype=torch.bool)
        dark, fixed = positions[:, 0].float() * 0, no if fixed is None else fixed
        home = torch.full_like(positions, torch.nan) if home is None else home
        return Start(positions, tile, dark, fixed, ~no, no, home)


class Moving(NamedTuple):
    """What a step changes."""

    rows: Int[Tensor, " k"]  # columns
    local: int  # so many of them alone; of the tiles of the others all columns move, and the background
    whole: Bool[Tensor, " t"]  # those tiles
