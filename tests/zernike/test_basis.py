import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torchmotif as tm
from torchmotif.zernike import orders, zernike_polynomials


def polynomial_patch(
    coefficients: torch.Tensor, size: int, offset: tuple[float, float] = (0, 0)
) -> torch.Tensor:
    """A patch that is a polynomial in x and y, sampled at every pixel centre."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(-(axis - offset[0]), axis - offset[1], indexing="ij")
    n_max = int((8 * len(coefficients) + 1) ** 0.5 - 3) // 2
    r, theta = torch.hypot(x, y).flatten() / (size / 2), torch.atan2(y, x).flatten()
    return (coefficients @ zernike_polynomials(n_max, r, theta)).view(size, size)


@pytest.mark.parametrize(("size", "n_max"), [(65, 20), (64, 20), (33, 10), (9, 4), (3, 1)])
def test_orthonormal_basis_is_orthonormal_on_the_pixels(size: int, n_max: int, device: torch.device) -> None:
    basis = tm.zernike_basis(n_max, size, orthonormal=True, device=device).flatten(1)
    gram = basis @ basis.T / (torch.pi * size**2 / 4)
    assert float((gram.cpu() - torch.eye(len(gram))).abs().max()) <= 1e-6


def test_no_other_orthonormal_set_is_nearer_to_the_kernels() -> None:
    kernels = tm.zernike_basis(6, 21, dtype=torch.float64).flatten(1)
    nearest = tm.zernike_basis(6, 21, orthonormal=True, dtype=torch.float64).flatten(1)
    distance = (nearest - kernels).square().sum()
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 1e-1):
        skew = size * torch.randn(len(kernels), len(kernels), generator=generator, dtype=torch.float64)
        turned = torch.linalg.matrix_exp(skew - skew.T) @ nearest
        assert (turned - kernels).square().sum() > distance


@pytest.mark.parametrize("size", [33, 34, 12, 7])
def test_kernels_integrate_smooth_images_exactly(size: int) -> None:
    """Low polynomials are the smoothest images there are: their moments are their coefficients."""
    basis = tm.zernike_basis(3, size, dtype=torch.float64)
    for j in range(10):
        patch = polynomial_patch(torch.eye(10, dtype=torch.float64)[j], size)
        moments = (basis * patch).sum((1, 2)) / (torch.pi * size**2 / 4)
        torch.testing.assert_close(moments, torch.eye(10, dtype=torch.float64)[j], atol=2e-4, rtol=0)


@settings(deadline=None)
@given(
    row=st.floats(-0.5, 0.5),
    column=st.floats(-0.5, 0.5),
    size=st.integers(8, 24),
)
def test_a_shifted_basis_has_the_moments_of_the_shifted_image(row: float, column: float, size: int) -> None:
    basis = tm.zernike_basis(2, size, offset=(row, column), dtype=torch.float64)
    coefficients = torch.arange(1.0, 7.0, dtype=torch.float64)
    patch = polynomial_patch(coefficients, size, (row, column))
    moments = (basis * patch).sum((1, 2)) / (torch.pi * size**2 / 4)
    torch.testing.assert_close(moments, coefficients, atol=5e-3, rtol=1e-3)


def test_the_disk_has_its_area() -> None:
    for size in (5, 16, 33, 65):
        assert float(tm.zernike_basis(0, size, dtype=torch.float64).sum()) == pytest.approx(
            torch.pi * size**2 / 4, rel=5e-5
        )


def test_angles_turn_counter_clockwise_from_the_columns() -> None:
    basis = tm.zernike_basis(1, 21)
    right, top = basis[2, 10, 15], basis[1, 5, 10]  # cos theta, sin theta
    assert right > 0.5
    assert top > 0.5


def test_kernels_have_the_symmetry_of_their_polynomials() -> None:
    for size in (17, 18):
        basis = tm.zernike_basis(7, size, dtype=torch.float64)
        m = orders(7)[:, 1]
        up = torch.where(m < 0, -1.0, 1.0)[:, None, None]
        torch.testing.assert_close(basis.flip(1), up * basis, atol=1e-12, rtol=0)
        across = up * (-1.0) ** m[:, None, None]
        torch.testing.assert_close(basis.flip(2), across * basis, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_max": 33, "size": 33}, "use n_max <= 32"),
        ({"n_max": -1, "size": 33}, "n_max must be"),
        ({"n_max": 0, "size": 2}, "at least 3"),
        ({"n_max": 4, "size": 33, "offset": (0.0, 1.5)}, "within one pixel"),
        ({"n_max": 30, "size": 31, "orthonormal": True}, "determine"),
    ],
    ids=["high", "negative", "small", "offset", "undetermined"],
)
def test_bad_requests_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises((tm.errors.InputError, tm.errors.InputTypeError), match=message):
        tm.zernike_basis(**arguments)  # type: ignore[arg-type]


def test_basis_has_the_dtype_asked_for(device: torch.device) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        basis = tm.zernike_basis(4, 11, dtype=dtype, device=device)
        assert basis.dtype == dtype
        exact = tm.zernike_basis(4, 11, dtype=torch.float64)
        assert float((basis.cpu().double() - exact).abs().max()) < np.sqrt(10) * torch.finfo(dtype).eps
