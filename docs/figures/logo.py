"""Draws docs/_static/logo.svg: the motif around a molybdenum column of MoSe2 that has lost one of its selenium pairs.

python docs/figures/logo.py
"""

from pathlib import Path

import numpy as np

import torchmotif as tm
from torchmotif import plot

HERE = Path(__file__).parent
LOGO = HERE.parent / "_static" / "logo.svg"
SIDE, RADIUS_NM = 120.0, 0.43  # the disc holds the first shell of like columns
GROUND, EMPTY = "#101828", "#f5f7fa"


def main() -> None:
    truth = tm.datasets.mose2((256, 256), 0.01, vacancy_rate=0.0, rotation_rad=np.pi / 2).truth
    at, kinds = truth.positions.numpy(), np.asarray(truth.kinds)
    metal = at[kinds == "Mo"]
    centre = metal[np.linalg.norm(metal - 127.5, axis=1).argmin()]
    away = (at - centre) * 0.01
    near = np.linalg.norm(away, axis=1) < RADIUS_NM - 0.08
    scale = 0.5 * SIDE / RADIUS_NM
    pair = np.flatnonzero(near & (kinds != "Mo") & (np.linalg.norm(away, axis=1) < 0.25))
    vacancy = pair[away[pair, 0].argmin()]
    discs = [f'<circle cx="60" cy="60" r="60" fill="{GROUND}"/>']
    for column in np.flatnonzero(near):
        row, col = SIDE / 2 + scale * away[column]
        heavy = kinds[column] == "Mo"
        colour = plot.motif_style(0 if heavy else 1).colour
        look = f'fill="{colour}"'
        if column == vacancy:
            look = f'fill="none" stroke="{EMPTY}" stroke-width="2.5" stroke-dasharray="4 3"'
        discs.append(f'<circle cx="{col:.1f}" cy="{row:.1f}" r="{11 if heavy else 8}" {look}/>')
    size = f"{SIDE:g}"
    LOGO.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" role="img" aria-label="torchmotif">\n  '
        + "\n  ".join(discs)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()
