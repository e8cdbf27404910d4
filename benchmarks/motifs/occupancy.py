"""Occupancy of sites: vacancies at low dose beside an oracle, calibration, real TiWSe2 against its labels, the border's motifs."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dose_sweep import DATA
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).parents[1]))
from sections import run

import torchmotif as tm
from torchmotif._elements import GAMMA, atomic_number
from torchmotif.columns import Columns
from torchmotif.columns.given import model_of
from torchmotif.lattice import SiteTable, find_sites, occupancy_of
from torchmotif.metrics import site_f1

RESULTS = Path(__file__).parents[1] / "results" / "occupancy.json"
PIXEL_NM, SIGMA_NM, RATE, SPACING = 0.015, 0.045, 0.06, 12.66
TIWSE2 = [(number, detector) for number in (11, 25) for detector in ("ADF1", "ADF2")]
Row = dict[str, Any]


def f1(found: np.ndarray, true: np.ndarray) -> float:
    return round(float(2 * (found & true).sum() / max(found.sum() + true.sum(), 1)), 3)


def specimen_of(side: int, seed: int, **more: Any) -> Any:
    return tm.datasets.mose2(
        (side, side), PIXEL_NM, vacancy_rate=RATE, probe_sigma_nm=SIGMA_NM, random_state=seed, **more
    )


def at_truth(specimen: Any, scan: Any) -> tuple[SiteTable, np.ndarray]:
    """Sites at the true positions, but for columns that lack all atoms, which nobody gave; the true kind of each."""
    truth, kinds = np.asarray(specimen.truth.positions), np.asarray(specimen.truth.kinds).astype(str)
    given = ((truth > 0) & (truth < np.array(scan.shape) - 1)).all(1) & (kinds != "V_Se2")
    at, pixels = truth[given], torch.as_tensor(scan.numpy().astype(np.float32))
    columns = Columns(at, np.ones(len(at)), SPACING, position_errors=np.full(at.shape, 1e-3))
    sites = find_sites(at, (kinds[given] == "Mo").astype(int), SPACING, shape=scan.shape)
    table = occupancy_of(pixels, model_of(pixels, SPACING, (1.0, 1.0), dark=False), columns, sites)
    distance, nearest = cKDTree(truth).query(table.positions)
    return table, np.where(distance < SPACING / 3, kinds[nearest], "none")


def oracle(specimen: Any, scan: Any, dose: float) -> tuple[np.ndarray, np.ndarray]:
    """Which Se2 and V_Se sites are called vacancies by who knows everything else, and which are.

    The likelihood of the counts with one atom and with two, all other columns, the probe and the share of vacancies known.
    """
    truth, kinds = np.asarray(specimen.truth.positions), np.asarray(specimen.truth.kinds).astype(str)
    inner = ((truth > 0) & (truth < np.array(scan.shape) - 1)).all(1)
    expected = np.asarray(specimen.image.data, np.float64) * dose
    atom = {name: atomic_number(name) ** GAMMA for name in ("Mo", "Se")}
    units = sum(
        (kinds[inner] == kind).sum() * weight
        for kind, weight in (("Mo", atom["Mo"]), ("Se2", 2 * atom["Se"]), ("V_Se", atom["Se"]))
    )
    electrons = expected.sum() * atom["Se"] / units
    reach = round(9 * SIGMA_NM / PIXEL_NM)
    pad, counts = np.pad(expected, reach + 1, constant_values=1.0), np.pad(scan.numpy(), reach + 1)
    rows = np.flatnonzero(inner & (kinds != "Mo") & (kinds != "V_Se2"))
    step, called = np.arange(-reach, reach + 1), []
    for row, col, kind in zip(*truth[rows].T, kinds[rows], strict=True):
        y, x = round(row), round(col)
        far = (y + step[:, None] - row) ** 2 + (x + step - col) ** 2
        profile = sum(
            share
            * np.exp(-0.5 * far / (width * SIGMA_NM / PIXEL_NM) ** 2)
            / (2 * np.pi * (width * SIGMA_NM / PIXEL_NM) ** 2)
            for share, width in ((0.9, 1.0), (0.1, 3.0))
        )
        part = np.s_[y + 1 : y + 2 * reach + 2, x + 1 : x + 2 * reach + 2]
        full = pad[part] + electrons * profile * (kind == "V_Se")
        half = np.maximum(full - electrons * profile, 1e-6 * full)
        inside = np.s_[max(0, reach - y) :, max(0, reach - x) :]
        gain = (counts[part] * np.log(half / full) - (half - full))[inside].sum()
        called.append(gain + np.log(RATE / (1 - RATE)) > 0)
    return np.array(called), kinds[rows] == "V_Se"


def vacancies() -> Iterator[Row]:
    """Simulated MoSe2 of 44,393 columns, 6 % vacancies, true positions given: F1 of the vacancies, and of an oracle."""
    for dose in (1 / 20, 1 / 50, 1 / 100, 1 / 200):
        specimen = specimen_of(3040, 5)
        scan = specimen.draw(dose, torch.Generator().manual_seed(1))
        start = time.process_time()
        sites, truth = at_truth(specimen, scan)
        seconds, best = time.process_time() - start, f1(*oracle(specimen, scan, dose))
        ours = f1((sites.sublattice == 0) & (sites.p_full < 0.5), truth == "V_Se")
        other = int(((sites.sublattice == 1) & (sites.p_full < 0.5)).sum())
        yield {
            "relative dose": f"1/{round(1 / dose)}",
            "F1 of vacancies": ours,
            "oracle": best,
            "ratio": round(ours / best, 3),
            "Mo called vacant": other,
            "processor time, s": round(seconds, 1),
        }


def both_atoms() -> Iterator[Row]:
    """Simulated MoSe2 of 20,000 columns with 6 % V_Se and 1 % V_Se2, no column given at the latter: F1 of each."""
    for dose in (1.0, 1 / 10, 1 / 20, 1 / 50, 1 / 100):
        specimen = specimen_of(2048, 3, divacancy_rate=0.01)
        sites, truth = at_truth(specimen, specimen.draw(dose, torch.Generator().manual_seed(2)))
        kinds = np.asarray(specimen.truth.kinds).astype(str)
        yield {
            "relative dose": f"1/{round(1 / dose)}",
            "V_Se": f1(sites.states == "partial", truth == "V_Se"),
            "V_Se2": f1(sites.states == "empty", truth == "V_Se2"),
            "V_Se2 that are a site": f"{(truth == 'V_Se2').sum()} of {(kinds == 'V_Se2').sum()}",
        }


def calibration() -> Iterator[Row]:
    """The same specimen, all doses from 1/20 to 1/100: share of the sites that are partly occupied, or empty, by probability."""
    p: dict[str, list[np.ndarray]] = {"partial": [], "empty": []}
    true: dict[str, list[np.ndarray]] = {"partial": [], "empty": []}
    for dose in (1 / 20, 1 / 50, 1 / 100):
        specimen = specimen_of(2048, 7, divacancy_rate=0.02)
        sites, truth = at_truth(specimen, specimen.draw(dose, torch.Generator().manual_seed(3)))
        for kind, name in (("partial", "V_Se"), ("empty", "V_Se2")):
            p[kind].append(np.nan_to_num(getattr(sites, f"p_{kind}")))
            true[kind].append(truth == name)
    joined = {kind: (np.concatenate(p[kind]), np.concatenate(true[kind])) for kind in p}
    for tenth in range(10):
        row: Row = {"probability": f"{tenth / 10:.1f} to {tenth / 10 + 0.1:.1f}"}
        for kind, (values, right) in joined.items():
            here = np.minimum((values * 10).astype(int), 9) == tenth
            row |= {
                f"{kind}: sites": int(here.sum()),
                f"{kind}: mean probability": round(float(values[here].mean()), 3),
                f"{kind}: share": round(float(right[here].mean()), 3),
            }
        yield row


def perfect() -> Iterator[Row]:
    """Simulated MoSe2 without vacancies, 512 x 512 px, 20 draws each: sites called partly occupied or empty."""
    for dose in (1.0, 1 / 20, 1 / 100):
        specimen, called, most, total = tm.datasets.mose2((512, 512), PIXEL_NM, vacancy_rate=0.0), 0, 0.0, 0
        for seed in range(20):
            sites, _ = at_truth(specimen, specimen.draw(dose, torch.Generator().manual_seed(seed)))
            called += int((sites.p_full < 0.5).sum())
            most, total = max(most, float(np.nanmax(sites.p_empty))), total + len(sites)
        yield {
            "relative dose": f"1/{round(1 / dose)}",
            "sites": total,
            "called not full": called,
            "greatest P(empty)": round(most, 4),
        }


def tiwse2() -> Iterator[Row]:
    """Real TiWSe2, default arguments, from pixels on: labelled V_Se that are a column, and a site; F1 of V_Se.

    By motifs and by states of the sites; every motif or state counts for the kind of site most of its sites have.
    """
    for number, detector in TIWSE2:
        table = np.loadtxt(DATA / f"TiWSe2_1028_{number}_columns.csv", delimiter=",", skiprows=1)
        labels, at = table[:, 2].astype(int), table[:, :2]
        result = tm.analyze(tm.read(DATA / f"TiWSe2_1028_{number}_{detector}.dm4"), progress=False)
        start = time.process_time()
        sites = result.sites
        seconds = time.process_time() - start
        near = result.columns.spacing / 3
        (to_column, column), (to_site, site) = (
            cKDTree(one.positions).query(at) for one in (result.columns, sites)
        )
        motif = np.where(to_column < near, result.labels[column], -1)
        state = np.unique(
            np.stack([sites.sublattice[site], np.nan_to_num(sites.fraction[site], nan=1.0)]),
            axis=1,
            return_inverse=True,
        )[1]
        state = np.where(to_site < near, state, -1)
        vacancy = labels == 1
        chalcogen = np.bincount(sites.sublattice[site[labels == 0]].clip(0)).argmax()
        called = (to_site < near) & (sites.sublattice[site] == chalcogen) & (sites.p_full[site] < 0.5)
        yield {
            "image": f"#{number} {detector}",
            "V_Se": int(vacancy.sum()),
            "a column": round(float((to_column < near)[vacancy].mean()), 3),
            "a site": round(float((to_site < near)[vacancy].mean()), 3),
            "F1 by motif": round(site_f1(labels, motif)[1], 3),
            "F1 by state": round(site_f1(labels, state)[1], 3),
            "F1, not full": f1(called, vacancy),
            "processor time of the sites, s": round(seconds, 1),
        }


def border() -> Iterator[Row]:
    """The middle 400 x 400 px of simulated MoSe2, three specimens: columns without a whole patch that have the right motif."""
    for dose in (1.0, 1 / 10, 1 / 20):
        right, probability, count, columns = [], [], 0, 0
        for seed in range(3):
            specimen = specimen_of(700, seed)
            scan = specimen.draw(dose, torch.Generator().manual_seed(seed))
            part = tm.Micrograph(scan.numpy()[150:550, 150:550], PIXEL_NM, electrons_per_pixel=10 * dose)
            result = tm.analyze(part, progress=False)
            truth = np.asarray(specimen.truth.positions) - 150
            distance, nearest = cKDTree(truth).query(result.columns.positions)
            kinds, true = np.asarray(specimen.truth.kinds).astype(str)[nearest], distance < SPACING / 3
            names = {-1: ""}
            for motif in range(result.n_motifs):
                found, number = np.unique(
                    kinds[result.whole & true & (result.labels == motif)], return_counts=True
                )
                names[motif] = found[number.argmax()] if len(found) else ""
            here = ~result.whole & true
            labelled = here & (result.labels >= 0)
            right += [
                names[motif] == kind
                for motif, kind in zip(result.labels[labelled], kinds[labelled], strict=True)
            ]
            probability += result.probabilities[labelled].tolist()
            count, columns = count + int(here.sum()), columns + int(true.sum())
        yield {
            "relative dose": f"1/{round(1 / dose)}",
            "without a whole patch": f"{count} of {columns}",
            "have a motif": round(len(right) / count, 3),
            "the right one": round(float(np.mean(right)), 3),
            "mean probability": round(float(np.mean(probability)), 3),
        }


SECTIONS = {
    "vacancies": vacancies,
    "both atoms": both_atoms,
    "calibration": calibration,
    "perfect": perfect,
    "tiwse2": tiwse2,
    "border": border,
}


if __name__ == "__main__":
    run(SECTIONS, RESULTS, __doc__)
