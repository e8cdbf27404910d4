import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import torchmotif as tm
from torchmotif.datasets.probe import wavelength_nm
from torchmotif.datasets.render import Window, gaussians


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    corner=st.tuples(st.integers(-40, 40), st.integers(-40, 40)),
    sigma=st.floats(0.6, 9.0),
    count=st.integers(0, 30),
    seed=st.integers(0, 1000),
)
def test_gaussians_are_their_direct_sum(
    size: tuple[int, int], corner: tuple[int, int], sigma: float, count: int, seed: int
) -> None:
    source = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 2, generator=source, dtype=torch.float64) * 120 - 20
    weights = torch.rand(count, generator=source, dtype=torch.float64)
    made = gaussians(Window(*corner, *size), places, weights, sigma)
    row = torch.arange(size[0])[:, None, None] + corner[0] - places[:, 0]
    col = torch.arange(size[1])[None, :, None] + corner[1] - places[:, 1]
    direct = (weights * torch.exp(-(row**2 + col**2) / (2 * sigma**2))).sum(-1) / (2 * math.pi * sigma**2)
    assert torch.allclose(made.double(), direct, atol=1e-5 * count / sigma**2 + 1e-9)


@pytest.mark.parametrize(
    "probe",
    [tm.datasets.GaussianProbe(), tm.datasets.AberratedProbe(a2_nm=20.0), tm.datasets.DiskProbe(0.1, 0.03)],
    ids=["gaussian", "aberrated", "disk"],
)
def test_tiles_are_parts_of_the_whole(probe) -> None:
    specimen = tm.datasets.mose2((150, 130), probe=probe)
    whole = specimen.image.data
    assert float(whole.mean()) == pytest.approx(10, rel=2e-3)
    seen = 0
    for (row, col), tile in specimen.tiles(64):
        part = whole[row : row + tile.shape[0], col : col + tile.shape[1]]
        assert torch.allclose(tile.image.data, part, atol=0.02 * float(whole.mean()))
        seen += len(tile.truth)
        assert bool((tile.truth.positions < torch.tensor(tile.shape) - 0.5).all())
    assert seen == len(specimen.truth)


def direct_intensity(probe: tm.datasets.AberratedProbe, places_nm: Tensor) -> Tensor:
    """Probe intensity at places (n, 2) = (row, col), by summing plane waves over the aperture; no source size."""
    wavelength, alpha_max = wavelength_nm(probe.voltage_kv), probe.semi_angle_mrad * 1e-3
    axis = torch.linspace(-alpha_max, alpha_max, 121, dtype=torch.float64)
    y, x = axis[:, None], axis[None, :]
    alpha, phi = torch.hypot(x, y), torch.atan2(y, x)
    chi = math.pi / wavelength * (0.5 * probe.c3_um * 1e3 * alpha**4 - probe.defocus_nm * alpha**2)
    chi = chi + 2 * math.pi / wavelength * probe.a2_nm / 3 * alpha**3 * torch.cos(
        3 * (phi - probe.a2_angle_rad)
    )
    inside = alpha <= alpha_max
    kx, ky = (torch.broadcast_to(v, alpha.shape)[inside] / wavelength for v in (x, y))
    phase = 2 * math.pi * (places_nm[:, 1, None] * kx - places_nm[:, 0, None] * ky) - chi[inside]
    return torch.polar(torch.ones_like(phase), phase).sum(1).abs() ** 2


@pytest.mark.parametrize(
    "settings_",
    [{}, {"defocus_nm": 5.0}, {"c3_um": 1.0, "defocus_nm": 4.0}, {"a2_nm": 40.0, "a2_angle_rad": 0.4}],
    ids=["ideal", "defocus", "spherical", "threefold"],
)
def test_an_aberrated_probe_is_the_wave_of_its_aperture(settings_: dict) -> None:
    probe = tm.datasets.AberratedProbe(80.0, 30.0, source_sigma_nm=0.0, **settings_)
    pixel, size = 0.02, 21
    image = probe.render(
        Window(0, 0, size, size), pixel, torch.full((1, 2), 10.0, dtype=torch.float64), torch.ones(1)
    )
    axis = (torch.arange(size, dtype=torch.float64) - 10) * pixel
    places = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    direct = direct_intensity(probe, places).reshape(size, size)
    scaled = direct * float((image.double() * direct).sum() / direct.square().sum())
    assert float((image.double() - scaled).abs().max()) < 0.01 * float(image.max())


def test_the_resolution_of_an_ideal_probe_is_the_aperture() -> None:
    assert wavelength_nm(300.0) == pytest.approx(0.0019687, rel=1e-4)
    probe = tm.datasets.AberratedProbe(80.0, 30.0)
    transfer = probe.transfer(torch.tensor([[0.0]]).double(), torch.tensor([[0.0, 14.5]]).double())
    assert transfer.real.numpy() == pytest.approx(np.array([[1.0, 0.0]]), abs=1e-6)


def test_a_background_lowers_the_contrast_and_keeps_the_mean() -> None:
    plain, hazy = (tm.datasets.mose2((128, 128), background=b).image.data for b in (0.0, 0.4))
    assert torch.allclose(hazy, 0.6 * plain + 4.0, atol=1e-4)


def test_jitter_displaces_lines_by_its_standard_deviation(generator: torch.Generator) -> None:
    ramp = torch.arange(64.0).expand(4000, 64).contiguous()
    jittered = tm.datasets.Scan(jitter_px=0.8).distorted(ramp, generator)
    shift = (jittered - ramp)[:, 20:40]
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-3)
    assert float(shift[:, 0].std()) == pytest.approx(0.8, rel=0.1)


def test_columns_appear_where_the_scan_says() -> None:
    scan = tm.datasets.Scan(drift_px=(6.0, -9.0), flyback_px=3.0, flyback_decay_px=25.0)
    specimen = tm.datasets.mose2((256, 256), vacancy_rate=0.0)
    image = scan.distorted(specimen.image.data)
    places = scan.observed(specimen.truth.positions, (256, 256))
    inner = ((places > 8) & (places < 246)).all(1)
    patches = tm.extract_patches(image, places[inner], 7)
    weight = patches / patches.sum((1, 2), keepdim=True)
    step = torch.arange(-3.0, 4.0)
    centre = torch.stack([(weight.sum(2) * step).sum(1), (weight.sum(1) * step).sum(1)], dim=1)
    window = torch.round(places[inner])
    error = (window + 2.2 * centre - places[inner]).norm(
        dim=1
    )  # a centre of mass in a small window sees less
    assert float(error.median()) < 0.15
    unmoved = (specimen.truth.positions - places)[inner].norm(dim=1)
    assert float(unmoved.median()) > 2


def test_a_scan_without_distortion_changes_nothing(generator: torch.Generator) -> None:
    image = tm.datasets.mose2((64, 64)).image.data
    assert torch.allclose(tm.datasets.Scan().distorted(image, generator), image, atol=1e-5)


def test_a_detector_makes_pixel_values(generator: torch.Generator) -> None:
    specimen = tm.datasets.mose2((128, 128))
    detector = tm.datasets.Detector(gain=12.0, offset=20.0, readout_noise=0.5, bits=8, saturation=250.0)
    drawn = specimen.draw(generator=generator, detector=detector, scan=tm.datasets.Scan(jitter_px=0.3))
    assert drawn.data.dtype == torch.uint8
    assert int(drawn.data.max()) == 250
    assert drawn.electrons_per_pixel == 10
    wide = specimen.draw(1 / 50, generator, detector=tm.datasets.Detector(gain=100.0, bits=16))
    assert wide.data.dtype == torch.uint16
    assert set(np.unique(wide.numpy() % 100)) == {0}
    plain = tm.datasets.Detector(gain=2.0, offset=1.0).pixels(torch.ones(2, 2))
    assert torch.equal(plain, torch.full((2, 2), 3.0))


def test_a_draw_has_the_dose_it_says(generator: torch.Generator) -> None:
    specimen = tm.datasets.mose2((512, 512))
    drawn = specimen.draw(1 / 50, generator)
    assert drawn.electrons_per_pixel == pytest.approx(0.2)
    assert float(drawn.data.mean()) == pytest.approx(0.2, rel=0.02)
    assert drawn.metadata["relative_dose"] == 1 / 50
    assert "512 x 512" in repr(specimen)


def test_images_are_made_where_asked(device: torch.device) -> None:
    specimen = tm.datasets.mose2((64, 64), device=device)
    assert specimen.image.data.device.type == device.type
    assert specimen.truth.positions.device.type == device.type


def test_a_specimen_from_an_image_has_no_tiles() -> None:
    specimen = tm.datasets.mose2((64, 64))
    fixed = tm.datasets.Specimen(specimen.image, specimen.truth)
    assert fixed.image is specimen.image
    with pytest.raises(tm.errors.InputError, match="in tiles"):
        next(fixed.tiles(32))
    with pytest.raises(tm.errors.InputError, match="side"):
        next(specimen.tiles(0))


def test_a_truth_needs_only_positions_kinds_and_classes() -> None:
    truth = tm.datasets.Truth(
        torch.zeros(2, 2, dtype=torch.float64), np.array(["a", "b"]), np.array(["a", "b"])
    )
    assert truth.species.tolist() == ["a", "b"]
    assert truth.strain.shape == (2, 2, 2)
    assert truth.grains.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tm.datasets.GaussianProbe(0.0), "sigma_nm"),
        (lambda: tm.datasets.GaussianProbe(0.05, tail=1.0), "tail"),
        (lambda: tm.datasets.AberratedProbe(0.0), "voltage_kv"),
        (lambda: tm.datasets.AberratedProbe(80.0, -1.0), "semi_angle_mrad"),
        (lambda: tm.datasets.AberratedProbe(source_sigma_nm=-1.0), "source_sigma_nm"),
        (lambda: tm.datasets.DiskProbe(0.0, 1.0), "radius_nm"),
        (lambda: tm.datasets.Scan(jitter_px=-1.0), "jitter_px"),
        (lambda: tm.datasets.Scan(flyback_px=30.0), "fold"),
        (lambda: tm.datasets.Detector(gain=0.0), "gain"),
        (lambda: tm.datasets.Detector(readout_noise=-1.0), "readout_noise"),
        (lambda: tm.datasets.Detector(bits=12), "bits"),
        (lambda: tm.datasets.mose2((64, 64)).draw(-1.0), "dose"),
        (lambda: tm.datasets.strain_bump((0.0, 0.0), 0.0, 0.1), "radius_px"),
        (lambda: tm.datasets.strain_bump((0.0, 0.0), 1.0, 1.0), "strain"),
    ],
    ids=lambda v: v.replace(" ", "-") if isinstance(v, str) else "",
)
def test_bad_settings_are_refused(call, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        call()
