"""Draws zernike_convention.png: python docs/figures/zernike_convention.py."""

from pathlib import Path

import matplotlib.pyplot as plt

import torchmotif as tm

basis = tm.zernike_basis(4, 129)
fig, rows = plt.subplots(5, 9, figsize=(9, 6))
for axes in rows.flat:
    axes.set_axis_off()
for j, (n, m) in enumerate(tm.zernike.orders(4).tolist()):
    axes = rows[n, m + 4]
    axes.imshow(basis[j], cmap="PuOr", vmin=-3, vmax=3)
    axes.set_title(f"j = {j} ({n}, {m})", fontsize=7)
compass = rows[0, 0]
compass.set(xlim=(-0.2, 1.6), ylim=(-0.2, 1.6))
for tip in ((1.1, 0), (0, 1.1)):
    compass.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "->"})
compass.annotate("", (0, 0.7), (0.7, 0), arrowprops={"arrowstyle": "->", "connectionstyle": "arc3,rad=0.4"})
compass.text(0.65, 0.55, r"$\theta$")
compass.text(1.15, -0.1, "columns", fontsize=7)
compass.text(-0.1, 1.2, "up", fontsize=7)
fig.savefig(Path(__file__).with_suffix(".png"), dpi=90, bbox_inches="tight")
