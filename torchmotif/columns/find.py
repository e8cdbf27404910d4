"""find_columns: from an image to its atomic columns."""

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._arrays import DeviceLike, keeps_digits, like, pixels_of, sent
from torchmotif._threads import in_threads, single_threaded
from torchmotif.columns._crystal import SEEN, counting_alone, speckle
from torchmotif.columns._detectable import NoColumnsError
from torchmotif.columns._learned import START_WIDTH
from torchmotif.columns._neighbours import as_index
from torchmotif.columns.calibrate import calibrate_image
from torchmotif.columns.grid import Grid, kept_columns, tile_side
from torchmotif.columns.lattice import dark_sites
from torchmotif.columns.model import ImageModel
from torchmotif.columns.pixels import limit_of, pixels_and_mask
from torchmotif.columns.polarity import Polarity, is_bright_field, polarity_of
from torchmotif.columns.result import Columns
from torchmotif.columns.tiled import columns_at, columns_of_tiles, peaks_of_tiles
from torchmotif.errors import InputError, TorchMotifWarning

__all__ = ["find_columns"]

_OF_THE_CALL = 4  # frames up to the call of `find_columns`, which is decorated


@keeps_digits
def find_columns(
    image: Any,
    *,
    spacing: float | None = None,
    threshold: float | None = None,
    polarity: Literal["auto", "bright", "dark"] = "auto",
    mask: Any = None,
    refine: bool = True,
    guided: bool = True,
    include_dark_sites: bool = False,
    device: DeviceLike = None,
) -> Columns:
    """Find the atomic columns of an image.

    Maxima of the matched-filtered image that stand out of its noise are fitted with Gaussians of one width on a
    smooth background, all together, by maximum likelihood; what the fit leaves over is searched once more. Where a lattice is seen, its mean
    cell shows columns that single maxima do not: too faint beside bright ones, or at too low a dose. They are fitted at the places that
    the local phase of the lattice gives (geometric phase analysis), and kept where a mixture over all like sites says that one is there. Where
    there is a crystal, fainter maxima that no neighbourhood supports are left out: they are speckle of what it lies on.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
        Pixels that are not finite are left out. Where a micrograph's pixels are not square, columns are sought
        that are round in the specimen.
    spacing : float, optional
        Distance between neighbouring columns in pixels; by default see `characteristic_spacing`.
    threshold : float, optional
        Least height of a column above its background, in the image's units. Without it, and beside it, a column
        must be above 3 sigma, and above 5 % of the 90th percentile of all.
    polarity : {"auto", "bright", "dark"}
        Whether columns are brighter (dark field) or darker (bright field) than what surrounds them; by default the image
        tells, see `polarity_of`.
    mask : boolean array of shape (h, w), or False, optional
        True where pixels are to be left out, in the way of `numpy.ma`. Pixels that look as if nothing was measured there,
        such as a constant fill around an aligned image, are left out too, unless it is False.
    refine : bool
        False gives the maxima as they are: their position to some tenths of a pixel, and for intensity their
        height in the filtered image times the area of a column.
    guided : bool
        Whether columns that do not stand out by themselves are looked for where the mean cell of the crystal around them has
        one, and kept where one is likelier than none. They are flagged by `is_predicted`. False finds what single
        maxima show.
    include_dark_sites : bool
        Adds the sites that the lattice around them predicts but nothing shows, such as divacancies; they keep the
        predicted position, have the intensity that a fit gives them there, and are flagged.
    device : str or torch.device, optional

    Returns
    -------
    Columns
        Arrays are numpy or torch as `image` came. None found gives arrays of length 0; so does amorphous speckle alone, with
        a warning.

    Raises
    ------
    InputError
        If the image is smaller than 16 pixels a side, constant, or has no finite pixel; or if no spacing can be
        seen in it and none is given.

    Examples
    --------
    >>> import torchmotif as tm
    >>> specimen = tm.datasets.mose2((128, 128), vacancy_rate=0.0)
    >>> tm.find_columns(specimen.image).spacing_nm > 0.17
    True
    """
    if polarity not in {"auto", "bright", "dark"}:
        raise InputError(f"polarity must be 'auto', 'bright' or 'dark', got {polarity!r}")
    if spacing is not None and not 2 <= spacing < math.inf:
        raise InputError(f"spacing must be at least 2 pixels, got {spacing}")
    pixels, axes, nm = pixels_and_mask(image, mask, device)

    shape = (pixels.shape[0], pixels.shape[1])

    def read(box: tuple[int, int, int, int]) -> Tensor:
        return pixels[box[0] : box[2], box[1] : box[3]]

    def result(arrays: dict[str, Tensor], spacing: float, width: tuple[float, float] | None) -> Columns:
        kept = {name: like(values, pixels_of(image)) for name, values in arrays.items()}
        return Columns(**kept, spacing=spacing, spacing_nm=None if nm is None else spacing * nm, width=width)

    try:
        with single_threaded():
            told = Polarity(polarity == "dark")
            if polarity == "auto":
                named = is_bright_field(*getattr(image, "metadata", {}).values())
                told = polarity_of(read, shape, axes=axes, spacing=spacing, bright_field=named)
            model = calibrate_image(
                [read],
                shape,
                axes=axes,
                limit=limit_of(pixels, dark=told.dark),
                dark=told.dark,
                spacing=spacing,
                measured=told.spacing,
                seen=told.levels,
                guided=guided,
            )
    except NoColumnsError as error:
        none = _no_columns(pixels, error)
        if not refine:
            none = {name: none[name] for name in ("positions", "intensities")}
        return result(none, error.model.spacing, None)
    if not refine:
        found = _in_tiles(pixels, model, lambda windows, _: peaks_of_tiles(windows, model))
        found = _in_crystals(found, pixels, model)
        found = {name: values[found["intensities"] >= (threshold or 0.0)] for name, values in found.items()}
        found["intensities"] *= 2 * math.pi * (START_WIDTH * model.spacing) ** 2
        return result(found, model.spacing, None)
    found = _in_tiles(pixels, model, lambda windows, _: columns_of_tiles(windows, model, threshold=threshold))
    found = _in_crystals(found, pixels, model)
    if include_dark_sites:
        found = _completed(pixels, model, found["positions"])
    found.setdefault("is_predicted", torch.zeros_like(found["is_rim"]))
    return result(found, model.spacing, model.width)


def _no_columns(pixels: Tensor, error: NoColumnsError) -> dict[str, Tensor]:
    """The attributes of nothing, and why there is nothing."""
    if error.amorphous:
        warnings.warn(str(error), TorchMotifWarning, stacklevel=_OF_THE_CALL)
    tile = torch.zeros(0, dtype=torch.long, device=pixels.device)
    at = torch.zeros(0, 2, dtype=torch.float64, device=pixels.device)
    none = columns_at(pixels[None, :16, :16], error.model, at, tile, tile > 0)
    none.pop("tile")
    return none


def _in_tiles(
    pixels: Float[Tensor, "h w"],
    model: ImageModel,
    stage: Callable[[Float[Tensor, "t h w"], Int[Tensor, "t 4"]], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """What a stage finds in the tiles of an image, each column once, by row and column; it is told the windows."""
    grid = Grid((pixels.shape[0], pixels.shape[1]), tile_side(model.spacing), model.margin)

    def work(numbers: range) -> dict[str, Tensor]:
        boxes = [grid[number].window for number in numbers]
        windows = torch.stack([pixels[a:c, b:d] for a, b, c, d in boxes])
        corners = sent(boxes, pixels, torch.long)
        found = stage(windows, corners)
        tile = found.pop("tile")
        return found | {"tile": tile + numbers[0], "positions": found["positions"] + corners[tile, :2]}

    parts = in_threads(work, grid.batches(pixels.device.type), pixels.device)
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    columns = (found["tile"][:, None], found["positions"], found["intensities"][:, None])
    host = torch.cat([one.double() for one in columns], dim=1).cpu().numpy()
    kept = kept_columns(
        grid, host[:, 0].astype(int), host[:, 1:3], host[:, 3], spacing=model.spacing, axes=model.axes
    )
    keep = sent(kept, pixels, torch.long)
    return {name: values[keep] for name, values in found.items() if name != "tile"}


def _in_crystals(found: dict[str, Tensor], pixels: Tensor, model: ImageModel) -> dict[str, Tensor]:
    """Columns without the speckle beside the crystals."""
    if not len(found["positions"]):
        return found
    seen = {name: found[name] for name in SEEN if name in found}
    if "position_errors" in seen:
        seen["position_errors"] = counting_alone(seen["position_errors"], model.correlation)
    none = speckle(
        seen,
        model.spacing,
        model.axes,
        (pixels.shape[0], pixels.shape[1]),
    )
    kept = as_index(~none)
    return found if len(kept) == len(none) else {name: values[kept] for name, values in found.items()}


def _completed(
    pixels: Float[Tensor, "h w"], model: ImageModel, positions: Float[Tensor, "n 2"]
) -> dict[str, Tensor]:
    """Columns together with the sites that the lattice around them predicts, fitted anew with these fixed."""
    axes = sent(model.axes, pixels, torch.float64)
    sites = dark_sites(positions / axes, model.spacing) * axes
    last = sent(pixels.shape, sites) - 0.5
    sites = sites[((sites >= -0.5) & (sites <= last)).all(dim=1)]
    every = torch.cat([positions, sites])

    def stage(windows: Tensor, corners: Tensor) -> dict[str, Tensor]:
        inside = (every >= corners[:, None, :2] - 0.5) & (every <= corners[:, None, 2:] - 0.5)
        tile, which = torch.nonzero(inside.all(dim=2)).unbind(1)
        return columns_at(windows, model, every[which] - corners[tile, :2], tile, which >= len(positions))

    return _in_tiles(pixels, model, stage)
