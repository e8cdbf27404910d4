"""Names against the truth: by composition on simulated MX2, by examples on simulated MoSe2, and on real images.

python benchmarks/motifs/names.py identify MoS2 W 1 --draws 16     # kinds, calibration, composition, a wrong formula; 10, 1, 0.5 e/px
python benchmarks/motifs/names.py like                              # five examples of each of four kinds, against the oracle
python benchmarks/motifs/names.py tiwse2 --draws 20                 # examples of one image applied to the other, and ceilings
python benchmarks/motifs/names.py real                              # MoSe2_80kV, TiWSe2, Se-implanted MoS2 by composition
"""

import argparse
import os
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.errors import CompositionError
from torchmotif.names.examples import Features
from torchmotif.noise import oracle

DATA = Path(os.environ.get("TORCHMOTIF_DATA", "../shared/data"))
BINS = (0.0, 0.6, 0.8, 0.95, 0.99, 1.01)


def calibration(sure: np.ndarray, right: np.ndarray) -> None:
    for low, high in pairwise(BINS):
        here = (sure >= low) & (sure < high)
        if here.any():
            print(
                f"    said {sure[here].mean():.3f}, right {right[here].mean():.3f}  ({here.sum():,} columns)"
            )


class Tally(NamedTuple):
    """Names of many draws against the truth."""

    names: Any  # of the last draw
    words: dict[str, Counter[str]]  # names of the columns of each true kind
    sure: np.ndarray  # probabilities of the names
    right: np.ndarray
    z: np.ndarray  # errors of the composition over stated ones, (draws, elements)
    refused: int  # draws in which a wrong formula is refused, or said to fit badly
    contrast: dict[
        str, list[float]
    ]  # of each kind and draw, standard errors of a column to the next name that some have


def tally_of(formula: str, dopant: str, electrons: float, draws: int, side: int) -> Tally:
    metal, chalcogen = re.findall("[A-Z][a-z]?", formula)
    tally: dict[str, Counter[str]] = {}
    contrast: dict[str, list[float]] = {}
    sure, right, scores, refused = [], [], [], 0
    for seed in range(draws):
        specimen = tm.datasets.mx2(
            metal, chalcogen, (side, side), vacancy_rate=0.03, divacancy_rate=0.005, antisite_rate=0.005,
            substitutions={dopant: 0.01}, random_state=seed,
        )  # fmt: skip
        scan = specimen.draw(electrons / 10, torch.Generator().manual_seed(seed))
        result = tm.analyze(scan, progress=False)
        try:
            wrong = result.identify("WTe2" if formula == "MoS2" else "MoS2").names
            refused += wrong is not None and any("fits badly" in one for one in wrong.warnings)
        except CompositionError:
            refused += 1
        names = result.identify(formula, dopants=[dopant]).names
        assert names is not None
        for row in names.record["table"]:
            contrast.setdefault(row["name"], []).append(row["contrast"])
        cut = np.asarray(result.columns.is_rim)
        places = np.vstack([result.columns.positions, names.empty_positions])
        words = np.concatenate([names.words, names.empty_words])
        probability = np.concatenate([names.probabilities, names.empty_probabilities])
        at, kinds = specimen.truth.positions.numpy(), specimen.truth.kinds
        away, near = cKDTree(places).query(at)
        there, inner = away < 0.45 * result.columns.spacing, ((at > 12) & (at < side - 13)).all(axis=1)
        for kind in np.unique(kinds):
            here = (kinds == kind) & inner
            tally.setdefault(kind, Counter()).update(np.where(there, words[near], "-")[here].tolist())
        sure.append(probability[near][inner & there])
        right.append((words[near] == kinds)[inner & there])
        counted = cKDTree(np.vstack([result.columns.positions[~cut], names.empty_positions])).query(at)[0]
        margin = 3 * max(result.columns.width or (2.0, 2.0))
        mine = (counted < 0.45 * result.columns.spacing) | ((at > margin) & (at < side - 1 - margin)).all(
            axis=1
        )
        table = names.composition
        atoms = Counter(a for one in specimen.truth.species[mine] for a in one.split("+") if a)
        true = np.array([100 * atoms[e] / sum(atoms.values()) for e in table["element"]])
        scores.append((table["at_percent"].to_numpy() - true) / table["error"].to_numpy())
    return Tally(
        names, tally, np.concatenate(sure), np.concatenate(right), np.array(scores), refused, contrast
    )


def identify(formula: str, dopant: str, electrons: float, draws: int, side: int) -> None:
    got = tally_of(formula, dopant, electrons, draws, side)
    print(
        f"{formula} with {dopant}, {electrons} e/px, {draws} draws of {side} px; a wrong formula refused or said to fit badly in {got.refused}"
    )
    print(got.names.table()[["name", "site", "contrast", "next"]].round(1).to_string())
    for kind, found in got.words.items():
        if not found:  # all of them are at the border
            continue
        apart = np.mean(got.contrast.get(kind, [np.nan]))
        print(
            f"  {kind:8} {found.total():6,}  named right {found[kind] / found.total():.3f}  "
            f"{apart:.1f} standard errors from the next name  {dict(found)}"
        )
    calibration(got.sure, got.right)
    within, rms = (np.abs(got.z) < 2).mean(axis=0), np.sqrt((got.z**2).mean(axis=0))
    print(f"  composition within two standard errors: {within}, rms z {rms}")


def f1(found: np.ndarray, true: np.ndarray, kind: str) -> float:
    return 2 * ((found == kind) & (true == kind)).sum() / max((found == kind).sum() + (true == kind).sum(), 1)


def drawn(result: tm.MotifResult, true: np.ndarray, kinds: list[str], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    rows = {kind: np.flatnonzero(result.whole & (true == kind)) for kind in kinds}
    return {
        k: result.columns.positions[rng.choice(r, min(5, len(r)), replace=False)]
        for k, r in rows.items()
        if len(r)
    }


def like(side: int) -> None:
    kinds = ["Mo", "Mo -1 Se", "Se2", "V_Se"]
    for dose in (1.0, 0.1, 0.05):
        specimen = tm.datasets.mose2((side, side), vacancy_rate=0.06)
        result = tm.analyze(specimen.draw(dose, torch.Generator().manual_seed(0)), progress=False)
        away, near = cKDTree(specimen.truth.positions.numpy()).query(result.columns.positions)
        classes, kind_of = specimen.truth.classes[near], specimen.truth.kinds[near]
        true = np.where(kind_of == "Mo", np.where(np.isin(classes, kinds), classes, ""), kind_of)
        true = np.where(away < 0.45 * result.columns.spacing, true, "")
        whole, size = result.whole, result.templates.shape[-1]
        at = result.columns.positions[whole]
        patches = tm.extract_patches(np.float32(result.image.numpy()), at, size)
        expected = tm.extract_patches(np.float32(specimen.image.numpy() * dose), at, size)
        names, place = np.unique(classes[whole], return_inverse=True)
        templates = np.stack([expected[place == k].mean(axis=0) for k in range(len(names))])
        best = names[np.asarray(oracle(patches, templates, np.bincount(place) / len(place)).labels)]
        best = np.where(np.char.startswith(best, "Mo"), best, np.char.partition(best, " ")[:, 0])
        print(f"relative dose {dose}: oracle", {k: round(f1(best, true[whole], k), 3) for k in kinds})
        for seed in range(3):
            found = result.like(drawn(result, true, kinds, seed)).names
            assert found is not None
            print("  examples", seed, {k: round(f1(found.words[whole], true[whole], k), 3) for k in kinds})
        calibration(found.probabilities[whole], (found.words == true)[whole])


def labelled(number: int, detector: str) -> tuple[tm.MotifResult, np.ndarray]:
    result = tm.analyze(tm.read(DATA / f"TiWSe2_1028_{number}_{detector}.dm4"), progress=False)
    table = np.genfromtxt(DATA / f"TiWSe2_1028_{number}_columns.csv", delimiter=",", names=True)
    away, near = cKDTree(np.stack([table["row_px"], table["col_px"]], axis=1)).query(result.columns.positions)
    kinds = np.array(["Se2", "V_Se", "W", "Ti"])[table["label"].astype(int)]
    return result, np.where(away < 2, kinds[near], "?")


def tiwse2(draws: int) -> None:
    """V_Se by five examples of each kind of the other image, and what classifiers reach that are trained on all labels."""
    kinds = ["Se2", "V_Se", "W"]
    for detector in ("ADF2", "ADF1"):
        both = {number: labelled(number, detector) for number in (11, 25)}
        for source, target in ((11, 25), (25, 11)):
            (first, known), (second, true) = both[source], both[target]
            use = second.whole & (true != "?")
            score = []
            for seed in range(draws):
                found = second.like(first.examples(drawn(first, known, kinds, seed))).names
                assert found is not None
                taken, is_one = found.words[use] == "V_Se", true[use] == "V_Se"
                both_of = (taken & is_one).sum()
                score.append(
                    [
                        *(f1(found.words[use], true[use], k) for k in kinds),
                        both_of / max(taken.sum(), 1),
                        both_of / is_one.sum(),
                    ]
                )
                if found.warnings:
                    print("  draw", seed, *found.warnings)
            mean, of_one = np.mean(score, axis=0).round(3), np.array(score)[:, 1]
            print(
                f"{detector}, {draws} draws of examples of {source} in {target}: F1 of Se2, V_Se, W {mean[:3]}; V_Se: precision, recall "
                f"{mean[3:]}, F1 of the worst, median and best draw {np.quantile(of_one, [0, 0.5, 1]).round(3)}"
            )
            print("  with all labels:", ceilings(both[source], both[target]))


def ceilings(
    source: tuple[tm.MotifResult, np.ndarray], target: tuple[tm.MotifResult, np.ndarray]
) -> dict[str, list[float]]:
    """F1 of V_Se among labelled Se2 and V_Se, where P > 0.5 and with the best threshold: trained on the target, five-fold, and on the source."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def known(one: tuple[tm.MotifResult, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        result, true = one
        use = result.whole & np.isin(true, ["Se2", "V_Se"])
        bright = np.asarray(result.columns.intensities)
        values = Features.of(result.moments, bright, 1.0).values
        return values[use], (true[use] == "V_Se").astype(int)

    (x, y), (other, of_other) = known(target), known(source)

    def at(sure: np.ndarray, limit: float) -> float:
        return float(2 * (y * (sure > limit)).sum() / (y.sum() + (sure > limit).sum()))

    found = {}
    models = {
        "linear": make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)),
        "trees": HistGradientBoostingClassifier(max_iter=120, learning_rate=0.06, min_samples_leaf=10),
    }
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for name, model in models.items():
        for title, columns in (("intensity", slice(-1, None)), ("moments and intensity", slice(None))):
            own = cross_val_predict(model, x[:, columns], y, cv=folds, method="predict_proba")[:, 1]
            across = model.fit(other[:, columns], of_other).predict_proba(x[:, columns])[:, 1]
            found[f"{name}, {title}"] = [
                round(value, 3)
                for sure in (own, across)
                for value in (at(sure, 0.5), max(at(sure, one) for one in np.sort(sure)[-len(y) // 5 :: 3]))
            ]
    return found


def real() -> None:
    scan = tm.read(DATA / "MoSe2_80kV.tif")
    cases = [
        ("MoSe2_80kV", tm.Micrograph(scan.data, 0.0079, "nm", scan.metadata), "MoSe2", []),
        ("TiWSe2 11 ADF2", tm.read(DATA / "TiWSe2_1028_11_ADF2.dm4"), "WSe2", ["Ti"]),
        ("TiWSe2 25 ADF2", tm.read(DATA / "TiWSe2_1028_25_ADF2.dm4"), "WSe2", ["Ti"]),
        ("Se-implanted MoS2", tm.read(DATA / "TEMUL_Se_implanted_MoS2.dm3"), "MoS2", ["Se"]),
    ]
    for title, image, formula, dopants in cases:
        result = tm.analyze(image, progress=False)
        try:
            names = result.identify(formula, dopants=dopants).names
        except CompositionError as error:
            print(title, error)
            continue
        assert names is not None
        print(title, names, names.record["gamma"], names.record["hosts"], *names.warnings, sep="\n  ")
        print(names.table().round(2).to_string(), names.composition.round(2).to_string(), sep="\n")
        if title == "MoSe2_80kV":
            table = np.genfromtxt(DATA / "MoSe2_80kV_columns.csv", delimiter=",", names=True)
            away, near = cKDTree(result.columns.positions).query(
                np.stack([table["row_px"], table["col_px"]], axis=1)
            )
            true = np.array(["Se2", "Mo", "Mo", "V_Se"])[table["label"].astype(int)]
            use = (away < 0.35 * result.columns.spacing) & result.whole[near]
            right = (names.words[near] == true)[use]
            of_kind = {kind: round(right[true[use] == kind].mean(), 3) for kind in ("Mo", "Se2", "V_Se")}
            print(f"  of {use.sum()} labelled columns {right.mean():.3f} are named as labelled: {of_kind}")
    readings()


def readings() -> None:
    """How bright the labelled columns of TiWSe2 are, and how bright each reading of their labels would have them.

    As they were labelled, dark columns are Se2 that lack an atom: 0.5. By the other reading the sites hold W, and dark ones Ti.
    """
    for number, detector in ((11, "ADF2"), (11, "ADF1"), (25, "ADF2"), (25, "ADF1")):
        columns = tm.find_columns(tm.read(DATA / f"TiWSe2_1028_{number}_{detector}.dm4"))
        table = np.genfromtxt(DATA / f"TiWSe2_1028_{number}_columns.csv", delimiter=",", names=True)
        away, near = cKDTree(columns.positions).query(np.stack([table["row_px"], table["col_px"]], axis=1))
        bright = np.asarray(columns.intensities)[near]
        usual = [float(np.median(bright[(table["label"] == k) & (away < 2)])) for k in range(3)]
        ratio, dark = usual[0] / usual[2], usual[1] / usual[0]
        if_w, if_se2 = np.log(2 * ratio) / np.log(74 / 34), np.log(2 / ratio) / np.log(74 / 34)
        print(
            f"TiWSe2 {number} {detector}: labelled Se2 over labelled W {ratio:.2f}: Z^{if_w:.2f} if it is W, Z^{if_se2:.2f} if it is Se2; "
            f"labelled V_Se over labelled Se2 {dark:.2f}: as labelled 0.50, as Ti of W {(22 / 74) ** if_w:.2f}, as Se on W "
            f"{(34 / 74) ** if_w:.2f}; as bright as one atom of Z = {74 * dark ** (1 / if_w):.1f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("section", choices=["identify", "like", "tiwse2", "real"])
    parser.add_argument("of", nargs="*", help="of identify: formula, dopant, electrons per pixel")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--side", type=int, default=640)
    given = parser.parse_args()
    if given.section == "identify":
        formula, dopant, electrons = given.of or ["MoS2", "W", "1"]
        identify(formula, dopant, float(electrons), given.draws, given.side)
    else:
        {"like": lambda: like(given.side), "tiwse2": lambda: tiwse2(given.draws), "real": real}[
            given.section
        ]()
