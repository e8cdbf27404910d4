import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import torchmotif as tm
from torchmotif.zernike import rotate, shifts


@pytest.fixture(scope="module")
def specimen() -> tm.datasets.Specimen:
    return tm.datasets.mose2((160, 170))


def windows(image: Tensor, positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Patches around the nearest pixels, and the offsets of the positions from their centres."""
    start = torch.floor(positions - (size - 1) / 2 + 0.5).long()
    patches = torch.stack([image[r : r + size, c : c + size] for r, c in start.tolist()])
    return patches, positions - start - (size - 1) / 2


@pytest.mark.parametrize("size", [21, 22])
def test_project_is_forward_of_the_windows(
    specimen: tm.datasets.Specimen, size: int, dtype: torch.dtype, device: torch.device
) -> None:
    image = specimen.image.data.to(device, dtype)
    basis = tm.ZernikeBasis(8, size, dtype=dtype, device=device)
    positions = specimen.truth.positions
    positions = positions[basis.inside(positions, image.shape)]
    patches, offsets = windows(image, positions, size)
    torch.testing.assert_close(basis.project(image, positions), basis(patches, offsets))


@pytest.mark.parametrize("size", [21, 22])
def test_maps_are_the_projection_at_every_pixel(
    specimen: tm.datasets.Specimen, size: int, dtype: torch.dtype, tolerance: dict[str, float]
) -> None:
    image = specimen.image.data.to(dtype)
    basis = tm.ZernikeBasis(6, size, dtype=dtype)
    maps = basis.maps(image)
    pixels = torch.cartesian_prod(torch.arange(0, 160, 7), torch.arange(0, 170, 7))
    torch.testing.assert_close(
        maps[:, pixels[:, 0], pixels[:, 1]].T,
        basis.project(image, pixels, outside="mask"),
        equal_nan=True,
        **tolerance,
    )
    assert torch.equal(~maps.isnan().any(0), basis.valid_mask((160, 170)))
    for modes, some in basis.iter_maps(image, range(3, 20)):
        torch.testing.assert_close(some, maps[modes], equal_nan=True, **tolerance)


@settings(deadline=None)
@given(height=st.integers(15, 70), width=st.integers(15, 70), size=st.integers(5, 15))
def test_maps_of_any_shape(height: int, width: int, size: int) -> None:
    basis = tm.ZernikeBasis(2, size, dtype=torch.float64)
    image = torch.rand(height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(height))
    pixels = torch.nonzero(basis.valid_mask((height, width)))
    maps = basis.maps(image)[:, pixels[:, 0], pixels[:, 1]].T
    torch.testing.assert_close(maps, basis.project(image, pixels), atol=1e-12, rtol=1e-10)


def test_fractional_positions_beat_the_nearest_pixel() -> None:
    """The moments of a blob do not depend on where between the pixels it lies."""
    generator = torch.Generator().manual_seed(1)
    centres = 32 + torch.rand(20, 2, generator=generator, dtype=torch.float64)
    grid = torch.arange(65, dtype=torch.float64)
    images = [
        torch.exp(-((grid[:, None] - r) ** 2 + (grid - 1.3 - c) ** 2) / 18) for r, c in centres.tolist()
    ]
    basis = tm.ZernikeBasis(8, 33, dtype=torch.float64, subpixel=16)
    fine = torch.cat([basis.project(i, p[None]) for i, p in zip(images, centres, strict=True)])
    coarse = torch.cat([basis.project(i, p[None].round()) for i, p in zip(images, centres, strict=True)])
    assert fine.std(dim=0).norm() < 0.1 * coarse.std(dim=0).norm()


def test_poisson_noise_of_a_moment_is_that_of_a_weighted_sum() -> None:
    """No counts are interpolated: the variance is the sum of counts times squared kernel, at any offset."""
    basis = tm.ZernikeBasis(6, 17, dtype=torch.float64, subpixel=4)
    generator = torch.Generator().manual_seed(2)
    expected = 3 + 2 * torch.rand(17, 17, generator=generator, dtype=torch.float64)
    patches = torch.poisson(expected.expand(20_000, -1, -1), generator=generator)
    moments = basis(patches, torch.tensor([[0.25, -0.5]]).expand(20_000, 2))
    kernels = tm.zernike_basis(6, 17, offset=(0.25, -0.5), dtype=torch.float64) / (math.pi * 17**2 / 4)
    variance = (kernels**2 * expected).sum((1, 2))
    torch.testing.assert_close(moments.var(dim=0), variance, rtol=0.08, atol=0)  # eight standard errors


@pytest.mark.parametrize("orthonormal", [False, True])
@pytest.mark.parametrize(("size", "n_max"), [(65, 20), (33, 10), (16, 6)])
def test_in_span_patches_come_back(size: int, n_max: int, orthonormal: bool, device: torch.device) -> None:
    basis = tm.ZernikeBasis(n_max, size, orthonormal=orthonormal, device=device)
    coefficients = torch.randn(8, len(basis.orders), generator=torch.Generator().manual_seed(3)).to(device)
    patches = basis.reconstruct(coefficients)
    moments = basis(patches)
    assert float((moments - coefficients).norm() / coefficients.norm()) <= 1e-5
    assert float((basis.reconstruct(moments) - patches).norm() / patches.norm()) <= 1e-5


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.uint8, torch.int32])
def test_any_real_dtype_is_projected_in_float32(kind: torch.dtype) -> None:
    """Rounding the input is the only loss."""
    patches = (100 * torch.rand(5, 21, 21, generator=torch.Generator().manual_seed(4))).to(kind)
    basis = tm.ZernikeBasis(8, 21)
    moments = basis(patches)
    assert moments.dtype == torch.float32
    torch.testing.assert_close(moments, basis(patches.double()))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_input_costs_its_own_rounding(kind: torch.dtype) -> None:
    patches = torch.rand(50, 33, 33, generator=torch.Generator().manual_seed(5))
    basis = tm.ZernikeBasis(10, 33)
    error = (basis(patches.to(kind)) - basis(patches)).norm() / basis(patches).norm()
    assert float(error) < torch.finfo(kind).eps / 4


def test_autocast_does_not_lower_moments() -> None:
    patches = torch.rand(5, 21, 21, generator=torch.Generator().manual_seed(6))
    basis = tm.ZernikeBasis(8, 21)
    plain = basis(patches), basis.reconstruct(basis(patches))
    with torch.autocast("cpu", torch.bfloat16):
        inside = basis(patches), basis.reconstruct(basis(patches))
    for a, b in zip(plain, inside, strict=True):
        assert torch.equal(a, b)


def test_gradients_pass_through() -> None:
    basis = tm.ZernikeBasis(3, 7, dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    image = torch.rand(10, 11, generator=generator, dtype=torch.float64, requires_grad=True)
    positions = torch.tensor([[4.2, 5.1], [5.0, 5.0], [3.0, 6.4]])
    moments = torch.rand(2, 10, generator=generator, dtype=torch.float64, requires_grad=True)
    patches = torch.rand(2, 7, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: basis.project(x, positions), image)
    assert torch.autograd.gradcheck(basis.reconstruct, moments)
    assert torch.autograd.gradcheck(basis, patches)
    assert torch.autograd.gradcheck(lambda x: rotate(x, 0.3), moments)


def test_gradients_in_float32_are_those_in_float64() -> None:
    patches = torch.rand(3, 15, 15, generator=torch.Generator().manual_seed(8))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = patches.clone().to(dtype).requires_grad_()
        tm.ZernikeBasis(6, 15, dtype=dtype)(leaf).square().sum().backward()
        gradients.append(leaf.grad.double())
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_numpy_in_numpy_out(specimen: tm.datasets.Specimen) -> None:
    basis = tm.ZernikeBasis(4, 15)
    image = specimen.image.numpy()
    positions = np.array([[50, 60], [70.5, 80.25]])
    moments = basis.project(image, positions)
    assert isinstance(moments, np.ndarray)
    assert isinstance(basis.maps(image[:40, :40]), np.ndarray)
    assert isinstance(basis.reconstruct(moments), np.ndarray)
    assert isinstance(basis(image[None, :15, :15]), np.ndarray)
    assert isinstance(basis.inside(positions, image.shape), np.ndarray)
    assert isinstance(basis.project(tm.Micrograph(image), positions), np.ndarray)


def test_nothing_in_nothing_out() -> None:
    basis = tm.ZernikeBasis(4, 15)
    assert basis(torch.zeros(0, 15, 15)).shape == (0, 15)
    assert basis(torch.zeros(0, 15, 15), torch.zeros(0, 2)).shape == (0, 15)
    assert basis.project(torch.zeros(30, 30), []).shape == (0, 15)
    assert basis.reconstruct(torch.zeros(0, 15)).shape == (0, 15, 15)


def test_positions_outside_are_refused_dropped_or_masked() -> None:
    basis = tm.ZernikeBasis(4, 15)
    image = torch.rand(40, 40, generator=torch.Generator().manual_seed(9))
    positions = torch.tensor([[20.0, 20.0], [3.0, 20.0], [-5.0, 90.0], [7.0, 32.0]])
    with pytest.raises(tm.errors.InputError, match="2 of 4 windows"):
        basis.project(image, positions)
    dropped = basis.project(image, positions, outside="drop")
    masked = basis.project(image, positions, outside="mask")
    assert dropped.shape == (2, 15)
    torch.testing.assert_close(masked[[0, 3]], dropped, atol=1e-6, rtol=0)  # rounding of another batch
    assert bool(masked[[1, 2]].isnan().all())
    assert basis.inside(positions, (40, 40)).tolist() == [True, False, False, True]
    assert bool(basis.project(torch.rand(9, 9), [(4, 4)], outside="mask").isnan().all())


def test_nan_spoils_only_the_windows_that_hold_it() -> None:
    basis = tm.ZernikeBasis(4, 9)
    image = torch.rand(40, 40, generator=torch.Generator().manual_seed(10))
    clean = basis.maps(image)
    image[20, 22] = torch.nan
    spoilt = basis.maps(image)
    lost = spoilt.isnan()[0] & ~clean.isnan()[0]
    assert lost.nonzero().min(0).values.tolist() == [16, 18]
    assert lost.nonzero().max(0).values.tolist() == [24, 26]
    torch.testing.assert_close(spoilt[:, 8:12, 8:12], clean[:, 8:12, 8:12])
    assert bool(basis.project(image, [(18, 20)]).isnan().all())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b(torch.zeros(2, 15, 14)), r"\(n, 15, 15\), got \(2, 15, 14\)"),
        (lambda b: b(torch.zeros(15, 15)), r"\(n, 15, 15\)"),
        (lambda b: b(torch.zeros(2, 15, 15), torch.zeros(3, 2)), r"offsets must have the shape \(2, 2\)"),
        (lambda b: b(torch.zeros(2, 15, 15), torch.full((2, 2), 0.8)), "half a pixel"),
        (lambda b: b.reconstruct(torch.zeros(2, 14)), r"\(n, 15\)"),
        (lambda b: b.project(torch.zeros(30, 30), [(math.nan, 15)]), "not finite"),
        (lambda b: b.project(torch.zeros(3, 30, 30), [(15, 15)]), "two-dimensional"),
        (lambda b: b(torch.zeros(2, 15, 15, dtype=torch.complex64)), "real numbers"),
        (lambda b: b.maps(torch.zeros(14, 30)), "at least 15 pixels a side"),
        (lambda b: b.maps(torch.zeros(30, 30, requires_grad=True)), "requires gradients"),
        (lambda b: list(b.iter_maps(torch.zeros(30, 30), [99])), "modes must lie between 0 and 14"),
        (lambda b: tm.ZernikeBasis(4, 15, subpixel=0), "subpixel"),  # noqa: ARG005
        (lambda b: tm.ZernikeBasis(4, 15, dtype=torch.float16), "float32 or torch.float64"),  # noqa: ARG005
        (lambda b: tm.ZernikeBasis(30, 31).reconstruct(torch.zeros(1, 496)), "determine"),  # noqa: ARG005
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((tm.errors.InputError, tm.errors.InputTypeError), match=message):
        call(tm.ZernikeBasis(4, 15))


def test_the_module_moves_with_all_it_has_made() -> None:
    basis = tm.ZernikeBasis(4, 15)
    basis.reconstruct(basis(torch.zeros(1, 15, 15), torch.full((1, 2), 0.25)))
    basis.double()
    patches = torch.rand(1, 15, 15, dtype=torch.float64)
    assert basis(patches, torch.full((1, 2), 0.25)).dtype == torch.float64
    assert basis.reconstruct(basis(patches)).dtype == torch.float64
    assert "k=15" in repr(basis)
    assert basis.state_dict() == {}


@pytest.mark.parametrize("size", [12, 13])
@pytest.mark.parametrize("orthonormal", [False, True])
def test_the_disk_is_shifted_to_every_point_of_the_grid(size: int, orthonormal: bool) -> None:
    """Those on the other sides of the window's middle are mirrored, not made: they must be the same."""
    basis = tm.ZernikeBasis(4, size, subpixel=3, orthonormal=orthonormal, dtype=torch.float64)
    patch = torch.rand((1, size, size), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    area = math.pi * size**2 / 4
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            offset = (row / 3, column / 3)
            made = tm.zernike_basis(4, size, orthonormal=orthonormal, offset=offset, dtype=torch.float64)
            expected = (made * patch).sum((1, 2))[None] / area
            torch.testing.assert_close(
                basis(patch, torch.tensor([offset], dtype=torch.float64)), expected, atol=1e-8, rtol=0
            )


def test_where_memory_runs_out_less_is_done_at_a_time(
    specimen: tm.datasets.Specimen, monkeypatch: pytest.MonkeyPatch
) -> None:
    basis = tm.ZernikeBasis(6, 21)
    positions = specimen.truth.positions[basis.inside(specimen.truth.positions, (160, 170))]
    moments, maps = basis.project(specimen.image, positions.round()), basis.maps(specimen.image)
    multiply, ifft2, largest = shifts.multiply, torch.fft.ifft2, 10

    def short_of_memory(moments: Tensor, patches: Tensor, kernels: Tensor) -> None:
        if len(patches) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        multiply(moments, patches, kernels)

    def also_short(product: Tensor, **arguments: Tensor) -> Tensor:
        if len(product) > largest:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return ifft2(product, **arguments)

    monkeypatch.setattr(shifts, "multiply", short_of_memory)
    monkeypatch.setattr(torch.fft, "ifft2", also_short)
    close = {"atol": 1e-5, "rtol": 0, "equal_nan": True}
    torch.testing.assert_close(basis.project(specimen.image, positions.round()), moments, **close)
    torch.testing.assert_close(basis.maps(specimen.image), maps, **close)
    largest = 0
    with pytest.raises(tm.errors.OutOfMemoryError, match="smaller size or n_max"):
        basis.project(specimen.image, positions)
    with pytest.raises(tm.errors.OutOfMemoryError, match="part of the image"):
        basis.maps(specimen.image)


def test_a_copy_projects_alike_and_is_sent_without_derived_kernels(device: torch.device) -> None:
    basis = tm.ZernikeBasis(6, 21, device=device)
    small = len(pickle.dumps(basis))
    image = torch.rand((64, 64), generator=torch.Generator().manual_seed(0)).to(device)
    positions = torch.linspace(20, 40, 90).reshape(45, 2)
    moments = basis.project(image, positions)
    assert len(pickle.dumps(basis)) == small
    assert torch.equal(copy.deepcopy(basis).project(image, positions), moments)


@pytest.mark.parametrize("count", [1, 9, 700])
def test_windows_in_blocks_have_the_moments_of_windows_in_groups(
    count: int, generator: torch.Generator
) -> None:
    basis = tm.ZernikeBasis(4, 9, subpixel=2)
    patches = torch.rand(count, 9, 9, generator=generator)
    steps = torch.randint(-1, 2, (count, 2), generator=generator)
    grouped = basis._shifted.project(lambda rows: patches[rows], steps, patches.device)
    # As on an accelerator, where no number of windows is known beforehand.
    blocks = basis._shifted._project_in_blocks(lambda rows: patches[rows], steps)
    torch.testing.assert_close(blocks, grouped, atol=1e-5, rtol=1e-4)
