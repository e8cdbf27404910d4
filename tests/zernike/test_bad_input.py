"""Arguments of the wrong type or value: an error that names them, never wrong numbers."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.zernike import (
    choose_n_max,
    fringe_index,
    from_fringe,
    from_noll,
    from_osa,
    noll_index,
    orders,
    osa_index,
    radial_polynomials,
    zernike_polynomials,
)

MOMENTS, IMAGE = torch.zeros(3, 28), torch.zeros(40, 40)
RADII = np.array([0.0, 0.5, 1.0])


@pytest.fixture(autouse=True)
def _as_users_call_it() -> Iterator[None]:
    """Without the checks of types that tests switch on, so that ours are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tm.ZernikeBasis(None, 33), "n_max must be a whole number"),
        (lambda: tm.ZernikeBasis(True, 33), "n_max must be a whole number"),
        (lambda: tm.ZernikeBasis(10.5, 33), "n_max must be a whole number"),
        (lambda: tm.ZernikeBasis(10, "a"), "size must be a whole number of at least 3, got 'a'"),
        (lambda: tm.ZernikeBasis(10, math.nan), "size must be a whole number"),
        (lambda: tm.ZernikeBasis(10, torch.ones(2)), "size must be a whole number"),
        (lambda: tm.zernike_basis(10, None), "size must be a whole number"),
        (lambda: tm.ZernikeBasis(10, 33, subpixel=2.5), "subpixel must be a whole number of at least 1"),
        (lambda: tm.ZernikeBasis(10, 33, subpixel=math.nan), "subpixel must be a whole number"),
        (lambda: tm.zernike_basis(4, 9, offset=0.3), r"offset must be two numbers, \(row, col\)"),
        (lambda: tm.zernike_basis(4, 9, offset=(0.3,)), "offset must be two numbers"),
        (lambda: tm.zernike_basis(4, 9, offset=("a", 0)), "offset must be two numbers"),
        (lambda: tm.zernike_basis(4, 9, offset=(math.nan, 0)), "offset must lie within one pixel"),
        (lambda: list(tm.ZernikeBasis(4, 15).iter_maps(IMAGE, 3)), r"modes must be a sequence .* use \[3\]"),
        (lambda: list(tm.ZernikeBasis(4, 15).iter_maps(IMAGE, [1.5])), "modes must be a whole number"),
        (lambda: choose_n_max(IMAGE, None), "size must be a whole number"),
        (lambda: tm.rotation_distance(torch.zeros(50, 28), torch.zeros(7, 28)), r"a\[:, None\]"),
        (lambda: tm.rotational_symmetry(MOMENTS, 3), r"folds must be a sequence .* \(2, 3\), got 3"),
        (lambda: tm.rotational_symmetry(MOMENTS, (2, 2.5)), "folds must be a sequence of whole numbers"),
        (lambda: tm.rotational_symmetry(MOMENTS, "ab"), "folds must be a sequence of whole numbers"),
        (lambda: tm.rotational_symmetry_map(IMAGE, tm.ZernikeBasis(4, 15), 3), "folds must be a sequence"),
        (lambda: radial_polynomials(2, RADII[None]), r"r must have the shape \(p,\), got \(1, 3\)"),
        (lambda: radial_polynomials(2, 0.5), r"r must have the shape \(p,\), got \(\)"),
        (lambda: zernike_polynomials(2, RADII, RADII[:2]), r"theta must have the shape \(3,\) of r"),
        (lambda: zernike_polynomials(2, RADII, RADII, 1.0), "factor must have the shape"),
    ],
)
def test_an_error_names_the_argument(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        call()


@pytest.mark.parametrize("back", [from_osa, from_noll, from_fringe])
@pytest.mark.parametrize("value", [2.0, None, "2", math.nan])
def test_single_indices_are_whole(back: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(tm.errors.InputError, match="j must be a whole number"):
        back(value)
    assert back(np.int64(4)) == back(torch.tensor(4)) == back(4)


@pytest.mark.parametrize("index", [osa_index, noll_index, fringe_index])
@pytest.mark.parametrize("pair", [(2.5, 0.5), (2.0, 0), (2, None), ("2", 0)])
def test_double_indices_are_whole(index: Callable[..., Any], pair: tuple[Any, Any]) -> None:
    with pytest.raises(tm.errors.InputError, match=r"\(n, m\) must be whole numbers"):
        index(*pair)
    assert [index(n, m) for n, m in orders(3)] == [index(n, m) for n, m in orders(3).tolist()]


def test_polynomials_take_and_give_numpy_and_read_integers_as_floats() -> None:
    expected = radial_polynomials(4, torch.from_numpy(RADII))
    for found, rows in zip(radial_polynomials(4, RADII), expected, strict=True):
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, rows.numpy())
    whole = radial_polynomials(4, torch.tensor([0, 1]))
    assert all(torch.equal(found, rows[:, ::2].float()) for found, rows in zip(whole, expected, strict=True))
    angles = np.array([0, 1, 2])
    assert np.array_equal(
        zernike_polynomials(4, RADII, angles),
        zernike_polynomials(4, torch.from_numpy(RADII), torch.from_numpy(angles)).numpy(),
    )


@pytest.mark.parametrize("orthonormal", [False, True])
@pytest.mark.parametrize("size", [3, 4, 9, 16, 33])
def test_half_the_side_is_an_order_that_the_pixels_determine(size: int, orthonormal: bool) -> None:
    """What the documentation promises; up to size - 1 there are moments, and errors say which limit is meant."""
    basis = tm.ZernikeBasis(size // 2, size, orthonormal=orthonormal, dtype=torch.float64)
    moments = torch.linspace(-1, 1, len(basis.orders), dtype=torch.float64)[None]
    torch.testing.assert_close(basis(basis.reconstruct(moments)), moments)
    assert len(tm.ZernikeBasis(size - 1, size).orders) == size * (size + 1) // 2
    with pytest.raises(tm.errors.InputError, match=f"use n_max <= {size - 1}, or {size // 2} where"):
        tm.ZernikeBasis(size, size, orthonormal=orthonormal)


def test_an_undetermined_basis_says_what_surely_works() -> None:
    with pytest.raises(tm.errors.InputError, match="orthonormal basis and reconstruct need; n_max <= 16"):
        tm.ZernikeBasis(32, 33, orthonormal=True)
