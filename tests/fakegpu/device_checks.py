"""What must hold on the stand-in GPU; run by test_fakegpu.py in a process of its own."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from backend import DEVICE, FakeGpuTensor
from counting import counted
from known import KNOWN, Given

import torchmotif as tm


@pytest.fixture(scope="module")
def specimen() -> tm.datasets.Specimen:
    return tm.datasets.mose2((96, 100))


@pytest.fixture(scope="module")
def basis() -> tm.ZernikeBasis:
    basis = tm.ZernikeBasis(6, 21, device=DEVICE, subpixel=4)
    basis(torch.zeros(1, 21, 21), torch.zeros(1, 2, device=DEVICE))  # makes the shifted kernels
    return basis


def test_the_stand_in_counts_reads_and_refuses_mixed_devices() -> None:
    x = torch.arange(6.0, device=DEVICE)
    assert isinstance(x, FakeGpuTensor)
    with counted(DEVICE) as count:
        float(x.sum())
        x.cpu()
        x[x > 2]
        torch.empty(6).copy_(x)
        x + x
        torch.ones(3).to(DEVICE)
    assert count.reads == [
        "aten::_local_scalar_dense",
        "aten::_to_copy",
        "aten::index by mask",
        "aten::copy_",
    ]
    with pytest.raises(RuntimeError, match="same device"):
        x + torch.ones(6)


@pytest.mark.parametrize("name", KNOWN)
def test_known_functions_count_what_is_known(name: str) -> None:
    function, operations, views, waits = KNOWN[name]
    given = Given.on(DEVICE)
    with counted(DEVICE) as count:
        function(given)
    assert (count.operations, count.views, count.by_kind) == (operations, views, waits)


@pytest.mark.parametrize("where", ["host", "device"])
def test_image_to_moments_reads_nothing_back(
    specimen: tm.datasets.Specimen, basis: tm.ZernikeBasis, where: str
) -> None:
    image = specimen.image.data.to(DEVICE)
    positions = specimen.truth.positions
    expected = tm.ZernikeBasis(6, 21, subpixel=4).project(specimen.image, positions, outside="mask")
    given = positions if where == "host" else positions.to(DEVICE)
    with counted(DEVICE) as count:
        moments = basis.project(image, given, outside="mask")
    assert count.reads == []
    assert where == "host" or count.waits == 0
    assert isinstance(moments, FakeGpuTensor)
    torch.testing.assert_close(moments.cpu(), expected, equal_nan=True, atol=1e-4, rtol=1e-4)


def test_patches_to_moments_reads_nothing_back(
    specimen: tm.datasets.Specimen, basis: tm.ZernikeBasis
) -> None:
    patches = specimen.image.data.unfold(0, 21, 9).unfold(1, 21, 9).reshape(-1, 21, 21).to(DEVICE)
    with counted(DEVICE) as count:
        moments = basis(patches)
        basis(patches, torch.zeros(len(patches), 2, device=DEVICE))
    assert count.reads == []
    torch.testing.assert_close(moments.cpu(), tm.ZernikeBasis(6, 21)(patches.cpu()), atol=1e-4, rtol=1e-4)


def test_maps_read_nothing_back(specimen: tm.datasets.Specimen, basis: tm.ZernikeBasis) -> None:
    image = specimen.image.data.to(DEVICE)
    with counted(DEVICE) as count:
        maps = basis.maps(image)
        symmetry = tm.rotational_symmetry_map(image, basis, (2, 3, 6))
        mirror = tm.mirror_symmetry_map(image, basis).score
    assert count.reads == []
    plain = tm.ZernikeBasis(6, 21)
    close = {"equal_nan": True, "atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(maps.cpu(), plain.maps(specimen.image), **close)
    torch.testing.assert_close(
        symmetry.cpu(), tm.rotational_symmetry_map(specimen.image, plain, (2, 3, 6)), **close
    )
    torch.testing.assert_close(mirror.cpu(), tm.mirror_symmetry_map(specimen.image, plain).score, **close)


def test_moments_to_invariants_reads_nothing_back(basis: tm.ZernikeBasis) -> None:
    generator = torch.Generator().manual_seed(0)
    host = torch.randn(5, 28, generator=generator)
    moments = host.to(DEVICE)
    with counted(DEVICE) as count:
        results = [
            tm.rotate(moments, 0.4),
            tm.reflect(moments, 0.4),
            tm.invariants(moments),
            tm.invariants(moments, "complete"),
            tm.rotation_distance(moments, tm.rotate(moments, 0.3), mirror=True).angle,
            tm.rotational_symmetry(moments, (2, 3)),
            tm.mirror_symmetry(moments).score,
            basis.reconstruct(moments),
        ]
    assert count.reads == []
    assert all(isinstance(result, FakeGpuTensor) for result in results)
    torch.testing.assert_close(results[3].cpu(), tm.invariants(host, "complete"))
    np.testing.assert_allclose(results[4].cpu(), 0.3, atol=1e-4)


def test_from_an_image_on_the_host_to_moments_is_one_upload(
    specimen: tm.datasets.Specimen, basis: tm.ZernikeBasis
) -> None:
    image = specimen.image.data.numpy()
    positions = specimen.truth.positions.to(DEVICE)
    with counted(DEVICE) as count:
        basis.project(torch.from_numpy(image).to(DEVICE), positions, outside="mask")
    assert count.reads == []
    assert [size for size in count.uploads if size > 2] == [image.size]  # else numbers such as a shape


@pytest.fixture(scope="module")
def scan() -> tm.Micrograph:
    specimen = tm.datasets.mose2((112, 116), vacancy_rate=0.0)
    return specimen.draw(generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def expected(scan: tm.Micrograph) -> tm.MotifResult:
    return tm.analyze(scan, progress=False)


def test_the_whole_way_from_image_to_labels(scan: tm.Micrograph, expected: tm.MotifResult) -> None:
    on_device = scan.replace(torch.as_tensor(scan.data).to(DEVICE))
    with counted(DEVICE) as count:
        found = tm.analyze(on_device, progress=False)
    np.testing.assert_allclose(found.columns.positions, expected.columns.positions, atol=1e-3)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.templates, expected.templates, rtol=1e-4, atol=1e-4)
    assert isinstance(found.labels, np.ndarray)
    size, whole = found.templates.shape[-1], int((found.labels >= 0).sum())
    # neither the image nor patches are sent again
    assert not {scan.data.size, whole * size**2} & set(count.uploads)
    kernels = {tm.zernike.n_modes(order) * size**2 for order in range(10, 21)}
    # Those of the offsets at which the noise of moments is known are the largest that is sent.
    assert any(max(count.uploads) % one == 0 for one in kernels)


def test_an_image_on_the_host_is_analysed_on_the_device(
    scan: tm.Micrograph, expected: tm.MotifResult
) -> None:
    found = tm.analyze(scan, device=DEVICE, progress=False)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert isinstance(found.labels, np.ndarray)


@pytest.mark.parametrize("side", [112, 224])
def test_the_search_for_columns_reads_as_often_whatever_their_number(side: int) -> None:
    """Once or a few times in each step of the fits; four times the columns take no more."""
    scan = tm.datasets.mose2((side, side + 4), vacancy_rate=0.0).draw(
        generator=torch.Generator().manual_seed(1)
    )
    image = scan.replace(torch.as_tensor(scan.data).to(DEVICE))
    with counted(DEVICE) as count:
        found = tm.find_columns(image)
    assert len(found) > side * side / 250
    assert len(count.reads) <= 450


def test_transfers_of_each_stage(scan: tm.Micrograph, expected: tm.MotifResult) -> None:
    """What is read back decides what comes next; no patch and no moment is among it."""
    image = torch.as_tensor(scan.data).to(DEVICE)
    at = torch.as_tensor(expected.columns.positions).to(DEVICE)
    size = tm.patches.first_shell(expected.columns.spacing)
    with counted(DEVICE) as count:
        whole = tm.patches.inside(at, scan.shape, size)
        positions = at[whole]
        patches = tm.extract_patches(image, positions, size)
        offsets = tm.patches.offsets(positions, size)
    assert len(count.reads) <= 8  # are all positions finite, do all windows lie inside, and which are they
    model = tm.MotifClassifier()
    with counted(DEVICE) as count:
        model.fit(patches, offsets)
    assert 0 < len(count.reads) < 1000  # of splits and of kernels, not of patches
    with counted(DEVICE) as count:
        labels = model.predict(patches, offsets)
    assert len(count.reads) <= 4
    assert isinstance(labels, FakeGpuTensor)
    np.testing.assert_array_equal(labels.cpu(), model.labels_.cpu())
