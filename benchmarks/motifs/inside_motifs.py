"""What the columns do inside a motif, against the truth: displacement, strain, grains, dislocations, finer classes, speed.

python benchmarks/motifs/inside_motifs.py [polar] [strain] [others] [grains] [constants] [dislocations] [classes] [speed] [field]
"""

import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets.honeycomb import single

DOSES = {"10": 1.0, "1": 0.1}  # electrons per pixel, and relative to the expected image
SEEDS = {"10": (0,), "1": (0, 1, 2, 3)}  # one draw at 1 electron per pixel has an error of a bias of its own
A_MOSE2, A_PEROVSKITE = 0.3289, 0.3905  # nm
NEAR = 3.0  # pixels within which a column is that of the truth


def analysed(specimen: Any, dose: float = 1.0, seed: int = 0) -> tm.MotifResult:
    return tm.analyze(specimen.draw(dose, torch.Generator().manual_seed(seed)), progress=False)


def matched(specimen: Any, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The true column nearest to each, and whether it is near."""
    away, which = cKDTree(specimen.truth.positions.numpy()).query(positions)
    return which, away < NEAR


def polar() -> None:
    """1. PbTiO3-like perovskite: bias, z-scores, significance, place of the wall."""
    print("1. displacement of Ti in its cage of Pb, two domains, 768 x 768 px of 15 pm")
    print(
        "e/px  pm   n   bias along P   across   error   z along, across   significant   p<0.05   wall off by (cells)"
    )
    along = np.array([math.cos(0.1), math.sin(0.1)])
    across = np.array([-math.sin(0.1), math.cos(0.1)])
    for name, dose in DOSES.items():
        for pm in (0.0, 5.0, 10.0, 20.0):
            specimen = tm.datasets.polar_perovskite((768, 768), displacement_pm=pm)
            rows = []
            for seed in (1, 2):
                result = analysed(specimen, dose, seed)
                field = result.polarisation()
                which, near = matched(specimen, field.positions)
                kept = near & field.known
                shift = specimen.truth.more["shift_px"][which[kept]]
                sign = np.where(specimen.truth.grains[which[kept]] == 0, -1.0, 1.0)
                off, errors = field.values[kept] - shift, field.errors[kept]
                found = field.values[kept] @ along
                wall = wall_of(specimen, field.positions[kept], found) if pm else math.nan
                rows.append((off, errors, sign, field.significant()[kept], field.p_values[kept], wall))
            off, errors, sign, clear, chance = (np.concatenate([row[i] for row in rows]) for i in range(5))
            walls = ", ".join(f"{row[5]:+.2f}" for row in rows)
            z = off / errors
            print(
                f"{name:>4} {pm:4.0f} {len(off):5d}  {((off @ along) * sign).mean() * 15:+.3f} pm  {(off @ across).mean() * 15:+.3f} pm "
                f"{errors.mean() * 15:6.2f} pm   {(z @ along).std():.3f} {(z @ across).std():.3f}   {clear.mean():.3f}   "
                f"{(chance < 0.05).mean():.3f}   {walls}",
                flush=True,
            )


def wall_of(specimen: Any, positions: np.ndarray, along: np.ndarray) -> float:
    """How far the wall that best parts negative from positive displacements is from the true one, in cells."""
    direction = np.array([-math.sin(0.1), math.cos(0.1)])
    place = (positions - (np.array(specimen.shape) - 1) / 2) @ direction
    order = np.argsort(place)
    best = (
        np.cumsum(along[order]).argmin() if along[place < 0].mean() < 0 else np.cumsum(along[order]).argmax()
    )
    middle = (place[order][best] + place[order][min(best + 1, len(order) - 1)]) / 2
    return float(middle / (A_PEROVSKITE / 0.015))


def strain_off(specimen: Any, dose: float, seeds: Any, *, turned: bool = False) -> tuple[Any, Any, Any, Any]:
    """Strain of some draws against the truth: bias (3,) of row, column and shear and its standard error, errors and z-scores (m, 3)."""
    every, stated, variance = [], [], np.zeros(3)
    for seed in seeds:
        field = analysed(specimen, dose, seed).strain({"a_nm": A_MOSE2, "gamma_deg": 120})
        which, near = matched(specimen, field.positions)
        kept = near & field.known
        # The truth of the data set is the small-strain tensor, which a rotation changes.
        true = specimen.truth.strain.numpy()[which[kept]] * (not turned)
        every.append(field.values[kept, :3] - np.stack([true[:, 0, 0], true[:, 1, 1], true[:, 0, 1]], axis=1))
        stated.append(field.errors[kept, :3])
        variance += np.diag(field.average(kept.astype(float))[1][0])[:3]
    off, errors = np.concatenate(every), np.concatenate(stated)
    return off.mean(0), np.sqrt(variance) / len(every), errors, off / errors


def strain() -> None:
    """2. Strain against the truth: bias and z-scores."""
    print("2. strain of MoSe2 with the lattice constant as reference, 600 x 600 px of 15 pm; default radius")
    print("e/px  case     draws, columns  bias row, col, shear, +- (%)   error (%)    z row, col, shear")
    middle = (299.5, 299.5)
    made = tm.datasets.homogeneous
    cases: dict[str, Any] = {
        "none": None,
        "0.1 %": made([[0.001, 0], [0, 0]], centre=middle),
        "0.5 %": made([[0.005, 0], [0, 0]], centre=middle),
        "1 %": made([[0.01, 0], [0, 0]], centre=middle),
        "2 %": made([[0, 0], [0, 0.02]], centre=middle),
        "5 %": made([[0.05, 0], [0, 0]], centre=middle),
        "shear 1 %": made([[0, 0.01], [0.01, 0]], centre=middle),
        "rotation 2 deg": made([[0, 0], [0, 0]], rotation_rad=math.radians(2), centre=middle),
        "gradient +-2 %": tm.datasets.strain_gradient(0.04 / 600, 299.5),
    }
    for name, dose in DOSES.items():
        for case, displacement in cases.items():
            specimen = tm.datasets.mose2((600, 600), vacancy_rate=0.0, displacement=displacement)
            draws = SEEDS[name]
            off, by, errors, z = strain_off(specimen, dose, draws, turned=case.startswith("rotation"))
            clear = ""
            if case == "none":
                clear = f"  significant {analysed(specimen, dose).strain().significant().mean():.3f}"
            print(
                f"{name:>4}  {case:14} {len(draws)} {len(z):5d}  {' '.join(f'{x:+.4f}' for x in off * 100)} +- {by.max() * 100:.4f}   "
                f"{errors[:, 0].mean() * 100:.3f}   {' '.join(f'{x:.3f}' for x in z.std(0))}{clear}",
                flush=True,
            )


def phase_strain(image: np.ndarray, basis: np.ndarray, sigma: float) -> np.ndarray:
    """Geometric phase analysis (Hytch, Snoeck & Kilaas, 1998): strain (h, w, 3) from two reflections of a lattice (2, 2)."""
    reciprocal = np.linalg.inv(basis).T
    row, col = np.indices(image.shape)
    gradients = []
    for g in reciprocal:
        carried = (image - image.mean()) * np.exp(-2j * np.pi * (g[0] * row + g[1] * col))
        part = gaussian_filter(carried.real, sigma) + 1j * gaussian_filter(carried.imag, sigma)
        unit = part / np.maximum(np.abs(part), 1e-12)
        slope = [np.imag(np.gradient(unit, axis=axis) * unit.conj()) for axis in (0, 1)]
        gradients.append(np.stack(slope, axis=-1))
    phase = np.stack(gradients, axis=-2)  # (h, w, reflection, axis)
    distortion = -np.einsum("pi,hwpj->hwij", basis, phase) / (2 * np.pi)
    return np.stack(
        [distortion[..., 0, 0], distortion[..., 1, 1], (distortion[..., 0, 1] + distortion[..., 1, 0]) / 2],
        -1,
    )


def others() -> None:
    """2. Beside geometric phase analysis and atomap's monolayer distances: error and time, one specimen for all."""
    print(
        "2. beside others: perovskite strained by 1 % along rows of a gradient of +-1 %, 512 x 512 px, root mean square error in %"
    )
    displacement = tm.datasets.strain_gradient(0.02 / 512, 255.5)
    specimen = tm.datasets.polar_perovskite(
        (512, 512), displacement_pm=0.0, rotation_rad=0.0, displacement=displacement
    )
    for name, dose in DOSES.items():
        image = specimen.draw(dose, torch.Generator().manual_seed(0))
        start = time.process_time()
        result = tm.analyze(image, progress=False)
        begun = time.process_time()
        for radius in (None, 60.0):
            lap = time.process_time()
            field = result.strain({"a_nm": A_PEROVSKITE}, radius=radius)
            seconds = time.process_time() - lap
            which, near = matched(specimen, field.positions)
            kept = near & field.known
            true = specimen.truth.strain.numpy()[which[kept]][:, 0, 0]
            off = field.values[kept, 0] - true
            print(
                f"{name:>4} e/px  torchmotif, radius {field.radius:.0f} px: {off.std() * 100:.3f} (bias {off.mean() * 100:+.4f}, stated "
                f"{field.errors[kept, 0].mean() * 100:.3f}), {seconds:.2f} s after {begun - start:.1f} s for columns and motifs"
            )
        pixels = np.asarray(image.numpy(), np.float64)
        basis = np.eye(2) * A_PEROVSKITE / 0.015
        places = np.rint(field.positions[kept]).astype(int)
        inner = ((places > 60) & (places < 452)).all(axis=1)
        for sigma in (13.0, 26.0, 42.0):
            lap = time.process_time()
            mapped = phase_strain(pixels, basis, sigma)
            seconds = time.process_time() - lap
            off = mapped[places[inner, 0], places[inner, 1], 0] - true[inner]
            print(
                f"{name:>4} e/px  GPA, sigma {sigma:.0f} px: {off.std() * 100:.3f} (bias {off.mean() * 100:+.4f}), {seconds:.2f} s"
            )
        by_atomap(result, pixels, name)


def by_atomap(result: tm.MotifResult, pixels: np.ndarray, name: str) -> None:
    """Atomap's monolayer distances along rows of its own positions of Pb, where it is installed."""
    try:
        import atomap.api as am
    except ImportError:
        print("      atomap is not installed")
        return
    levels = result._levels()  # noqa: SLF001
    start = result.columns.positions[np.isin(result.sites.columns, levels[0])]
    lap = time.process_time()
    sub = am.Sublattice(start[:, ::-1].copy(), image=pixels)
    sub.find_nearest_neighbors()
    sub.refine_atom_positions_using_2d_gaussian(percent_to_nn=0.35, show_progressbar=False)
    sub.construct_zone_axes()
    best = None
    for zone in sub.zones_axis_average_distances[:2]:
        x, y, distance = sub.get_monolayer_distance_list_from_zone_vector(zone)[:3]
        places = np.stack([y, x], axis=1)
        apart = A_PEROVSKITE / 0.015
        found = np.asarray(distance) / apart - 1
        true = 0.02 / 512 * (places[:, 0] - 255.5)
        inner = ((places > 40) & (places < 472)).all(axis=1)
        spread = float((found - true)[inner].std())
        best = spread if best is None else min(best, spread)
    print(
        f"{name:>4} e/px  atomap, monolayer distances: {best * 100:.3f}, {time.process_time() - lap:.1f} s with its refinement"
    )


def grains() -> None:
    """3. Grains: columns in the right one, misorientation."""
    print("3. grains: share of columns in the right one, and misorientations")
    made = tm.datasets.mose2
    cases = {
        f"four grains {seed}": (made((900, 900), grains=4, vacancy_rate=0.02, random_state=seed), seed)
        for seed in (1, 3, 4, 7)
    }
    cases["mirror twin"] = (made((512, 512), grains=2, boundary="mirror", vacancy_rate=0.0), None)
    for name, (specimen, seed) in cases.items():
        for dose in (1.0, 0.1):
            result = analysed(specimen, dose)
            found = result.grains
            which, near = matched(specimen, result.columns.positions)
            true = specimen.truth.grains[which]
            table = np.zeros((true.max() + 1, len(found) + 1), int)
            np.add.at(table, (true[near], found.labels[near]), 1)
            right = table[:, :-1].max(axis=1).sum() / near.sum() if len(found) == len(table) else math.nan
            both = on_mirror(specimen)[which] & (seed is None)
            own = table[:, :-1].argmax(axis=1)
            either = ((found.labels == own[true]) | (both & (found.labels >= 0)))[near].mean()
            angles = np.radians(0) + true_angles(seed) if seed is not None else np.array([0.0, 60.0])
            off = []
            for i in range(len(table)):
                for j in range(i):
                    if len(found) == len(table) and own[i] != own[j]:
                        got, error = found.misorientation_deg(int(own[i]), int(own[j]))
                        apart = (angles[i] - angles[j]) % 120
                        off.append((abs(got - min(apart, 120 - apart)), error))
            worst = max((one for one, _ in off), default=math.nan)
            z = np.array([one / error for one, error in off])
            print(
                f"{name:15} {10 * dose:4.0f} e/px: {len(found)} grains, found {near.mean():.3f} of columns right {right:.4f}, "
                f"{either:.4f} with {int((both & near).sum())} on the mirror right in either; "
                f"misorientation off by at most {worst:.4f} deg, rms {np.sqrt((z**2).mean()) if len(z) else math.nan:.2f} stated errors",
                flush=True,
            )
    for twist in (0.05, 0.12):
        specimen = tm.datasets.twisted_bilayer_mos2(twist, (512, 512))
        for dose in (1.0, 0.1):
            bilayer(specimen, twist, dose)


def bilayer(specimen: Any, twist: float, dose: float) -> None:
    """Columns of a twisted bilayer in the right layer, and the twist."""
    result = analysed(specimen, dose)
    found, positions = result.layers, result.columns.positions
    true, layer = specimen.truth.positions.numpy(), np.asarray(specimen.truth.more["layer"])
    away = np.stack([cKDTree(true[layer == one]).query(positions)[0] for one in (0, 1)])
    near, own = away.min(0) < NEAR, away.argmin(0)
    right = max((found.labels == one)[near & ~found.shared].mean() for one in (own, 1 - own))
    both = max((found.labels == one)[near].mean() for one in (own, 1 - own))
    off, error = abs(found.twist_deg[0]) - math.degrees(twist), found.twist_deg[1]
    print(
        f"twisted bilayer of {twist} rad, {10 * dose:4.0f} e/px: {found}; of {int((near & ~found.shared).sum())} columns of one layer right "
        f"{right:.4f}, of all {int(near.sum())} found {both:.4f}; twist off by {off:+.4f} +- {error:.4f} deg",
        flush=True,
    )


def on_mirror(specimen: Any) -> np.ndarray:
    """Which true columns lie on the mirror of a twin: as near to sites of the one lattice as to those of the other."""
    place = specimen.truth.positions.numpy() - (np.array(specimen.shape) - 1) / 2
    height = place @ [math.cos(0.2), math.sin(0.2)] + A_MOSE2 / 0.015 * math.sqrt(3) / 6
    return np.abs(height) < 0.1


def true_angles(seed: int) -> np.ndarray:
    """Orientations of the grains that `mose2` draws, in degrees."""
    rng = np.random.default_rng(seed)
    rng.random((4, 2))
    return np.degrees(np.array([0.2, *(rng.random(3) * (2 * np.pi / 3))]))


def constants() -> None:
    """3. A lattice constant within its stated error in 95 % of 40 draws; no dislocation in 20 perfect crystals."""
    specimen = tm.datasets.mose2((400, 400), vacancy_rate=0.0)
    z, found = [], 0
    for seed in range(40):
        result = analysed(specimen, 1.0 if seed % 2 else 0.1, seed)
        grain = result.grains[0]
        z += [(value - A_MOSE2) / error for value, error in (grain.a_nm, grain.b_nm)]
        found += len(result.dislocations) if seed < 20 else 0
    z = np.array(z)
    print(
        f"3. lattice constants of 40 draws: {np.mean(np.abs(z) < 1.96):.3f} within 1.96 stated errors, "
        f"z {z.std():.3f}, mean z {z.mean():+.2f}; dislocations in 20 perfect crystals: {found}"
    )


def dislocations() -> None:
    """3. An edge dislocation with the right Burgers vector."""
    print("3. edge dislocation: place off by (px), Burgers vector off by (px)")
    for name, dose in DOSES.items():
        for kind, constant, angle in (
            ("perovskite", A_PEROVSKITE / 0.015, 0.1),
            ("mose2", A_MOSE2 / 0.015, 0.2),
        ):
            turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            centre = 255.5 + turn @ np.array([0.45, 0.25]) * constant
            vector = turn @ np.array([0, constant])
            slip = tm.datasets.edge_dislocation(tuple(centre), tuple(vector))
            if kind == "mose2":
                specimen = tm.datasets.mose2((512, 512), vacancy_rate=0.02, displacement=slip)
            else:
                specimen = tm.datasets.polar_perovskite((512, 512), displacement_pm=0.0, displacement=slip)
            found = analysed(specimen, dose).dislocations
            place = np.linalg.norm(found.positions - centre, axis=1).round(1).tolist()
            off = np.linalg.norm(found.burgers_px - vector, axis=1).round(3).tolist()
            print(f"{name:>4} e/px {kind}: {len(found)} found, place {place}, vector {off}", flush=True)


def classes() -> None:
    """4. Two strain states 1 % apart are told apart, a gradient is not cut, a perfect crystal neither."""
    print("4. finer classes of strain in MoSe2, 600 x 600 px")
    side = 600

    def two(positions: torch.Tensor) -> torch.Tensor:
        away = positions[:, 1] - side / 2
        return torch.stack([0 * away, 0.005 * away.abs()], dim=1)

    cases: dict[str, Any] = {"two states": two, "none": None}
    cases["gradient +-1 %"] = tm.datasets.strain_gradient(0.02 / side, side / 2, axis=1)
    for name, dose in DOSES.items():
        for case, displacement in cases.items():
            for seed in (0, 1):
                specimen = tm.datasets.mose2((side, side), vacancy_rate=0.0, displacement=displacement)
                result = analysed(specimen, dose, seed)
                for radius in (None, 60.0):
                    found = result.split(np.ones(len(result.labels), bool), result.strain(radius=radius))
                    known = found.labels >= 0
                    right = result.columns.positions[known, 1] > side / 2
                    share = max((right == found.labels[known]).mean(), (right != found.labels[known]).mean())
                    told = f", {share:.3f} right" if case == "two states" and len(found) == 2 else ""
                    print(
                        f"{name:>4} e/px  {case}, radius {radius or 'default'}: {len(found)} classes{told}; {found.reason}",
                        flush=True,
                    )


def speed() -> None:
    """6. Time of each for 100,000 columns."""
    from dataclasses import replace

    cell = A_MOSE2 / 0.015
    lattice = single((4600, 4600), cell, 0.2)
    rng = np.random.default_rng(0)
    inside = ((lattice.positions > 0) & (lattice.positions < 4599)).all(axis=1)
    place = lattice.positions[inside] + rng.normal(scale=0.1, size=(int(inside.sum()), 2))
    order = np.lexsort(place.T[::-1])
    small = analysed(tm.datasets.mose2((128, 128), vacancy_rate=0.0))
    n, kind = len(place), lattice.chalcogen[inside][order].astype(np.int64)
    columns = tm.Columns(
        place[order],
        np.where(kind, 1.36, 1.0).astype(np.float32),
        cell / math.sqrt(3),
        position_errors=np.full((n, 2), 0.1, np.float32),
    )
    image = tm.Micrograph(np.zeros((4600, 4600), np.uint8), 0.015)
    result = replace(small, image=image, columns=columns, labels=kind, probabilities=np.ones(n))
    print(f"6. seconds for {n:,} columns (wall, processor)")
    total = 0.0
    steps: dict[str, Callable[[], Any]] = {
        "sublattices": lambda: result._sublattices,  # noqa: SLF001
        "errors from scatter": lambda: result._points,  # noqa: SLF001
        "grains": lambda: result.grains,
        "dislocations": lambda: result.dislocations,
        "displacements": lambda: result.displacements().errors,
        "polarisation": lambda: result.polarisation().errors,
        "strain": lambda: result.strain().errors,
        "smoothed": lambda: result.strain().smoothed(20.0),
    }
    for name, step in steps.items():
        wall, lap = time.perf_counter(), time.process_time()
        step()
        wall, lap = time.perf_counter() - wall, time.process_time() - lap
        total += wall if name not in {"sublattices", "smoothed"} else 0.0
        print(f"   {name}: {wall:.2f} {lap:.2f}", flush=True)
    print(f"   all but sublattices and smoothing: {total:.2f}")


def field() -> None:
    """6. A field of 16 tiles against the whole image."""
    specimen = tm.datasets.polar_perovskite((1024, 1024), displacement_pm=10.0)
    image = specimen.draw(1.0, torch.Generator().manual_seed(0))
    whole = tm.analyze(tm.Micrograph(image.numpy(), image.pixel_size), progress=False)
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/field.npy", image.numpy())
        found = tm.field.analyze(
            f"{folder}/field.npy", f"{folder}/store", pixel_size_nm=0.015, tile=256, progress=False
        )
        one, other = whole.polarisation(), found.polarisation()
        print(f"6. field: {len(one)} and {len(other)} columns")
        if len(one) == len(other):
            worst = np.nanmax(np.abs(one.values - other.values))
            strains = np.nanmax(np.abs(whole.strain().values - found.strain().values))
            print(f"   greatest difference of displacements {worst:.2e} px, of strain {strains:.2e}")


def main() -> None:
    warnings.simplefilter("ignore")
    sections = (polar, strain, others, grains, constants, dislocations, classes, speed, field)
    wanted = sys.argv[1:]
    for section in sections:
        if not wanted or section.__name__ in wanted:
            section()


if __name__ == "__main__":
    main()
