"""Motifs of real TiWSe2 against its labels: the sections of motifs_more.py that need these images."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from dose_sweep import DATA, windows
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.metrics import site_f1
from torchmotif.patches import first_shell, inside

TIWSE2 = [(number, detector) for number in (11, 25) for detector in ("ADF2", "ADF1")]
Row = dict[str, Any]


def labelled_image(number: int, detector: str) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, float]:
    """Pixels, positions refined by find_columns where it finds the labelled column, labels, spacing."""
    pixels = torch.as_tensor(tm.read(DATA / f"TiWSe2_1028_{number}_{detector}.dm4").numpy().astype("float32"))
    table = np.loadtxt(DATA / f"TiWSe2_1028_{number}_columns.csv", delimiter=",", skiprows=1)
    columns = tm.find_columns(pixels)
    found = np.asarray(columns.positions)
    distance, nearest = cKDTree(found).query(table[:, :2])
    seen = distance < columns.spacing / 3
    positions = table[:, :2].copy()
    positions[seen] = found[nearest[seen]]
    size = first_shell(columns.spacing)
    whole = np.asarray(inside(positions, tuple(pixels.shape), size))
    return pixels, torch.from_numpy(positions[whole]), table[whole, 2].astype(int), columns.spacing


def tiwse2() -> Iterator[Row]:
    """Real TiWSe2, labelled positions, default arguments: site F1 of Se2, V_Se, W, Ti."""
    for number, detector in TIWSE2:
        pixels, positions, labels, spacing = labelled_image(number, detector)
        size = first_shell(spacing)
        model = tm.MotifClassifier().fit(*windows(pixels, positions, size))
        scores = site_f1(labels, model.labels_.numpy())
        named = {name: round(scores[k], 3) for k, name in enumerate(("Se2", "V_Se", "W", "Ti"))}
        yield {"image": f"#{number} {detector}", "patch_px": size, **named, "motifs": model.n_motifs_}


def bound() -> Iterator[Row]:
    """Real TiWSe2: F1 of V_Se by classifiers trained on the labels, five-fold cross-validated, given all they may need."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import f1_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for number, detector in TIWSE2:
        pixels, positions, labels, spacing = labelled_image(number, detector)
        size = first_shell(spacing)
        moments = tm.ZernikeBasis(size // 2, size)(*windows(pixels, positions, size)).numpy()
        # Intensities of the column and of its eighteen nearest, and the same over their median.
        heights = tm.ZernikeBasis(0, 5)(*windows(pixels, positions, 5)).numpy()[:, 0]
        _, near = cKDTree(positions).query(positions, 19)
        around = heights[near]
        features = np.concatenate([moments, around, around / np.median(around, 1, keepdims=True)], 1)
        models = {
            "linear": make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()),
            "15 neighbours": make_pipeline(StandardScaler(), KNeighborsClassifier(15)),
            "boosted trees": HistGradientBoostingClassifier(
                max_iter=150, class_weight="balanced", random_state=0
            ),
        }
        scores = {
            name: round(f1_score(labels == 1, cross_val_predict(model, features, labels == 1, cv=5)), 3)
            for name, model in models.items()
        }
        yield {"image": f"#{number} {detector}", "V_Se": int((labels == 1).sum()), **scores}


def detectors() -> Iterator[Row]:
    """Real TiWSe2, two detectors of one field: do both find the same vacancies, and are they those that are labelled?

    The noise of the detectors is independent. A column that both call a vacancy is one in the image, whatever its label.
    """
    for number in (11, 25):
        found, places, labels, heights = [], [], [], []
        for detector in ("ADF2", "ADF1"):
            pixels, positions, kinds, spacing = labelled_image(number, detector)
            size = first_shell(spacing)
            motif = tm.MotifClassifier().fit(*windows(pixels, positions, size)).labels_.numpy()
            share = [(kinds[motif == k] == 1).mean() for k in range(motif.max() + 1)]
            found.append(np.isin(motif, np.flatnonzero(np.array(share) > 0.25)))
            intact = kinds == 0
            middle = tm.ZernikeBasis(0, 5)(*windows(pixels, positions, 5)).numpy()[:, 0]
            _, near = cKDTree(positions[intact]).query(positions, 30)
            heights.append(middle / np.median(middle[intact][near], axis=1))
            places.append(positions)
            labels.append(kinds)
        distance, other = cKDTree(places[1]).query(places[0])
        both = distance < 2
        first, second = found[0][both], found[1][other[both]]
        vacancy = labels[0][both] == 1
        against = labels[0][both] == 0
        height = heights[1][other[both]]
        groups = {
            "labelled V_Se": vacancy & first,
            "labelled Se2, motif of V_Se": against & first,
            "labelled Se2": against & ~first,
        }
        yield {
            "field": f"#{number}",
            "F1 ADF2 with ADF1": round(f1(first, second), 3),
            "ADF2 with labels": round(f1(first, vacancy), 3),
            "ADF1 with labels": round(f1(second, vacancy), 3),
            "both with labels": round(f1(first & second, vacancy), 3),
            "called V_Se by both, labelled Se2": int((first & second & against).sum()),
            "labelled V_Se, by neither": int((vacancy & ~first & ~second).sum()),
            "brightness in ADF1 (mean, deviation) of what ADF2 finds": {
                name: (round(float(height[rows].mean()), 3), round(float(height[rows].std()), 3))
                for name, rows in groups.items()
            },
        }


def f1(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / max(one.sum() + other.sum(), 1))
