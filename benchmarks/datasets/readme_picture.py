"""Draws the README's picture, docs/readme.png, from a real run: ``python benchmarks/datasets/readme_picture.py``."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

import torchmotif as tm
from torchmotif import plot

TARGET = Path(__file__).parents[2] / "docs" / "readme.png"


def main() -> None:
    specimen = tm.datasets.mose2((320, 320), vacancy_rate=0.06)
    scan = specimen.draw(generator=torch.Generator().manual_seed(0))
    result = tm.analyze(scan, progress=False)
    figure = Figure(figsize=(11.5, 3.9), dpi=150, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 1.02))
    image, motifs = left.subplots(1, 2)
    image.imshow(scan.numpy(), cmap="gray")
    image.set_axis_off()
    image.set_title("a micrograph (simulated MoSe$_2$, 10 electrons per pixel)", fontsize=9)
    plot.scale_bar(image, scan.shape[1], scan.pixel_size_nm[1])
    figure.draw_without_rendering()  # the marks take their size from the axes
    result.plot_map(motifs).get_legend().remove()
    motifs.set_title(f"its {len(result.columns)} atomic columns in {result.n_motifs} motifs", fontsize=9)
    for ax in result.plot_motifs(right):
        ax.title.set_fontsize(7)
    figure.savefig(TARGET, dpi=95)
    print(f"written to {TARGET}")


if __name__ == "__main__":
    main()
