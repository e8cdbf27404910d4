from fractions import Fraction
from math import comb, factorial

import numpy as np
import pytest
import torch

from torchmotif.zernike import (
    fringe_index,
    from_fringe,
    from_noll,
    from_osa,
    n_modes,
    noll_index,
    orders,
    osa_index,
    radial_polynomials,
    zernike_polynomials,
)

RADII = [Fraction(i, 64) for i in (0, 1, 7, 19, 32, 45, 57, 62, 63, 64)]


def exact_radial(n: int, m: int, r: Fraction) -> Fraction:
    """The factorial formula in exact arithmetic."""
    return sum(
        (-1) ** k
        * Fraction(factorial(n - k), factorial(k) * factorial((n + m) // 2 - k) * factorial((n - m) // 2 - k))
        * r ** (n - 2 * k)
        for k in range((n - m) // 2 + 1)
    )


@pytest.mark.parametrize("n_max", [60, 200])
def test_radial_polynomials_match_exact_fractions(n_max: int) -> None:
    """To rounding at every order; beyond 60 a sample of m."""
    table = radial_polynomials(n_max, torch.tensor([float(r) for r in RADII], dtype=torch.float64))
    worst = 0.0
    for n in range(n_max + 1) if n_max == 60 else (100, 151, 200):
        for i, m in enumerate(range(n, -1, -2)):
            if n_max > 60 and i % 17:
                continue
            exact = [float(exact_radial(n, m, r)) for r in RADII]
            worst = max(worst, float(np.abs(table[n][i].numpy() - exact).max()))
    assert all(bool(torch.isfinite(rows).all()) for rows in table)
    assert worst <= (2e-15 if n_max == 60 else 1e-13)


def test_radial_polynomials_are_one_at_the_rim(dtype: torch.dtype, tolerance: dict[str, float]) -> None:
    for rows in radial_polynomials(30, torch.ones(1, dtype=dtype)):
        torch.testing.assert_close(rows, torch.ones_like(rows), **tolerance)


def test_polynomials_are_orthonormal_over_the_disk() -> None:
    """Gauss quadrature in r^2 and equal steps in theta integrate products exactly."""
    node, weight = np.polynomial.legendre.leggauss(24)
    r = torch.from_numpy(np.sqrt((node + 1) / 2))
    theta = torch.arange(64, dtype=torch.float64) * (2 * torch.pi / 64)
    values = zernike_polynomials(20, r.repeat_interleave(64), theta.repeat(24))
    weights = torch.from_numpy(weight / 2).repeat_interleave(64) / 64
    gram = (values * weights) @ values.T
    torch.testing.assert_close(gram, torch.eye(n_modes(20), dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("index", "back", "first", "known"),
    [
        (osa_index, from_osa, 0, [(0, 0), (1, -1), (1, 1), (2, -2), (2, 0), (2, 2), (3, -3), (3, -1)]),
        (noll_index, from_noll, 1, [(0, 0), (1, 1), (1, -1), (2, 0), (2, -2), (2, 2), (3, -1), (3, 1)]),
        (fringe_index, from_fringe, 1, [(0, 0), (1, 1), (1, -1), (2, 0), (2, 2), (2, -2), (3, 1), (3, -1)]),
    ],
    ids=["osa", "noll", "fringe"],
)
def test_single_indices_go_there_and_back(index, back, first, known) -> None:  # type: ignore[no-untyped-def]
    assert [back(first + i) for i in range(len(known))] == known
    assert all(index(*back(j)) == j for j in range(first, 500))
    with pytest.raises(ValueError, match="n >= "):
        index(2, 1)
    with pytest.raises(ValueError, match="at least"):
        back(first - 1)


def test_orders_follow_the_osa_index() -> None:
    assert [osa_index(n, m) for n, m in orders(12).tolist()] == list(range(n_modes(12)))
    assert comb(14, 2) == n_modes(12)
