"""Draws the pictures of the explanations, explain_*.png: python docs/figures/explanation.py."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection

import torchmotif as tm
from torchmotif.noise import moment_variance
from torchmotif.plot import motif_style, scale_bar

HERE = Path(__file__).parent
SIZE = 37
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def columns() -> tuple[tm.datasets.Specimen, torch.Tensor, torch.Tensor, np.ndarray]:
    """Simulated MoSe2: the specimen, the places and offsets of whole patches, and their kinds."""
    specimen = tm.datasets.mose2((640, 640), vacancy_rate=0.1)
    whole = tm.patches.inside(specimen.truth.positions, specimen.shape, SIZE)
    positions = specimen.truth.positions[whole]
    return specimen, positions, tm.patches.offsets(positions, SIZE), specimen.truth.kinds[whole.numpy()]


def save(figure: plt.Figure, name: str) -> None:
    figure.savefig(HERE / f"explain_{name}.png", dpi=110)
    plt.close(figure)


def grey(ax: Axes, picture: np.ndarray, title: str, **style: object) -> None:
    ax.imshow(picture, cmap="gray", **style)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()


def orders() -> None:
    """A patch from more and more of its moments."""
    specimen, positions, _, kinds = columns()
    one = int(np.flatnonzero(kinds == "Mo")[40])
    patch = tm.extract_patches(specimen.image.data, positions[one : one + 1], SIZE)
    figure, axes = plt.subplots(1, 5, figsize=(9, 2.1), layout="constrained")
    top = float(patch.max())
    grey(axes[0], patch[0], f"patch, {SIZE} x {SIZE} px", vmin=0, vmax=top)
    scale_bar(axes[0], SIZE, specimen.image.pixel_size_nm[1])
    for ax, n in zip(axes[1:], (2, 4, 8, 12), strict=True):
        basis = tm.ZernikeBasis(n, SIZE)
        count = (n + 1) * (n + 2) // 2
        grey(ax, basis.reconstruct(basis(patch))[0], f"n_max {n}: {count} moments", vmin=0, vmax=top)
    save(figure, "orders")


def noise() -> None:
    """Moments of one patch in many draws, and the scatter that counting predicts."""
    specimen, positions, _, kinds = columns()
    one = int(np.flatnonzero(kinds == "Mo")[40])
    expected = tm.extract_patches(specimen.image.data, positions[one : one + 1], SIZE)
    basis = tm.ZernikeBasis(6, SIZE)
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 2.7), width_ratios=(1, 1, 3.2), layout="constrained")
    generator = torch.Generator().manual_seed(0)
    for ax, dose in zip(axes, (1, 1 / 50), strict=False):
        grey(ax, torch.poisson(expected[0] * dose, generator=generator), "full dose" if dose == 1 else "1/50")
        scale_bar(ax, SIZE, specimen.image.pixel_size_nm[1])
    k = len(tm.zernike.orders(6))
    for dose, colour, shift in ((1 / 50, BLUE, 0.15), (1, ORANGE, -0.15)):
        draws = torch.poisson((expected * dose).expand(300, -1, -1), generator=generator) / dose
        moments = basis(draws)
        error = moment_variance(expected, basis.basis, electrons_per_unit=dose).sqrt()[0]
        place = torch.arange(1, k) + shift
        axes[2].scatter(place.expand(300, -1), moments[:, 1:], s=1, color=colour, alpha=0.25, rasterized=True)
        mean = basis(expected)[0, 1:]
        label = "predicted, full dose" if dose == 1 else "predicted, 1/50"
        axes[2].errorbar(place, mean, error[1:], fmt="none", ecolor="black", elinewidth=0.9, capsize=2.5)
        axes[2].plot([], [], ".", color=colour, label=label.replace("predicted", "300 draws"))
    axes[2].errorbar(
        [], [], [], fmt="none", ecolor="black", capsize=2.5, label="predicted, one standard deviation"
    )
    axes[2].set(xlabel="moment j", ylabel="electrons per pixel", xlim=(0.3, k - 0.3))
    axes[2].legend(fontsize=7, loc="lower right", ncols=3)
    save(figure, "noise")


def splits() -> None:
    """Two kinds of column along the direction that tells them apart, at three doses."""
    specimen, positions, offsets, kinds = columns()
    basis = tm.ZernikeBasis(10, SIZE, subpixel=8)
    select = np.isin(kinds, ["Se2", "V_Se"])
    names = kinds[select]
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 2.6), layout="constrained")
    for ax, dose in zip(axes, (1 / 5, 1 / 50, 1 / 200), strict=True):
        image = specimen.draw(dose, torch.Generator().manual_seed(3)).data
        moments = basis(tm.extract_patches(image, positions, SIZE) / dose, offsets)[select].double().numpy()
        means = [moments[names == kind].mean(0) for kind in ("V_Se", "Se2")]
        within = np.cov(moments[names == "Se2"].T)
        direction = np.linalg.solve(
            within + 1e-9 * np.trace(within) * np.eye(len(within)), means[1] - means[0]
        )
        along = (
            (moments - moments[names == "Se2"].mean(0)) @ direction / np.sqrt(direction @ within @ direction)
        )
        middle = {kind: along[names == kind].mean() for kind in ("V_Se", "Se2")}
        edges = np.linspace(middle["V_Se"] - 4, 4, 60)
        for kind, colour, hatch in (("Se2", BLUE, ""), ("V_Se", ORANGE, "////")):
            here = along[names == kind]
            ax.hist(here, edges, color=colour, alpha=0.75, hatch=hatch, label=f"{kind}: {len(here)}")
        ax.set_title(f"1/{1 / dose:.0f} of the dose: d' = {-middle['V_Se']:.1f}", fontsize=9)
        ax.set(xlabel="standard deviations of one column", yscale="log", ylim=(0.7, None))
    axes[0].set_ylabel("columns")
    axes[0].legend(fontsize=8, loc="upper center")
    save(figure, "splits")


def hierarchy() -> None:
    """Columns, neighbours, faces and cells, an assembly."""
    specimen = tm.datasets.pentagonal_oxide((300, 300), filling=0.35, coupling=0.2, random_state=2)
    scan = specimen.draw(generator=torch.Generator().manual_seed(0))
    some = np.isin(specimen.truth.kinds, ["filled", "hollow"])
    graph = tm.PlaneGraph.from_positions(specimen.truth.positions.numpy()[some], specimen.truth.kinds[some])
    points = graph.positions[:, ::-1]
    nodes, cells = graph.cells()
    outlines = [graph.faces.centroids[:, ::-1][cell] for cell in cells]
    styles = [motif_style(i) for i in range(2)]
    colours = [styles[i].colour for i in graph.label_index[nodes]]
    level = tm.MotifHierarchy(4).fit(graph).levels_[3]
    mixed = next(i for i, (labels, _) in enumerate(level.codes) if labels.count("filled") == 2)
    found = np.asarray(level.occurrences(mixed))
    picked = found[np.abs(points[found].mean(1) - 150).max(1).argmin()].tolist()
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
    titles = (
        "motifs: labelled columns",
        "neighbours: a plane graph",
        "cells: its dual",
        "an assembly of four",
    )
    for ax, title in zip(axes, titles, strict=True):
        grey(ax, scan.numpy(), title, vmax=2.5 * np.percentile(scan.numpy(), 99))
        ax.set(xlim=(60, 240), ylim=(240, 60))
    edges = LineCollection(points[graph.edges], colors="#FFFFFF", linewidths=1)
    axes[1].add_collection(edges)
    for ax in axes[:2]:
        for i, style in enumerate(styles):
            here = graph.label_index == i
            ax.scatter(*points[here].T, s=18, color=style.colour, label=str(graph.label_names[i]), zorder=3)
    axes[0].legend(fontsize=7, loc="upper right", framealpha=0.9)
    axes[2].add_collection(PolyCollection(outlines, facecolors=colours, edgecolors="black", linewidths=0.5))
    shown = [i for i, node in enumerate(nodes.tolist()) if node in picked]
    axes[3].add_collection(
        PolyCollection(
            [outlines[i] for i in shown],
            facecolors=[colours[i] for i in shown],
            edgecolors="black",
            linewidths=0.8,
        )
    )
    centre = points[picked].mean(0)
    axes[3].set(xlim=(centre[0] - 55, centre[0] + 55), ylim=(centre[1] + 55, centre[1] - 55))
    scale_bar(axes[0], 180, specimen.image.pixel_size_nm[1])
    scale_bar(axes[3], 110, specimen.image.pixel_size_nm[1])
    save(figure, "hierarchy")


if __name__ == "__main__":
    for draw in (orders, noise, splits, hierarchy):
        draw()
