"""Simulated specimens whose truth is known."""

from torchmotif.datasets.atoms import from_atoms
from torchmotif.datasets.bilayer import twisted_bilayer_mos2
from torchmotif.datasets.colloid import colloid
from torchmotif.datasets.coverage import with_bar, with_fill, with_frames, with_mosaic
from torchmotif.datasets.instrument import Detector, Scan
from torchmotif.datasets.lattices import dumbbells, rectangular, rocksalt, square
from torchmotif.datasets.mx2 import mose2, mx2
from torchmotif.datasets.nanoparticle import nanoparticle
from torchmotif.datasets.oxide import pentagonal_oxide
from torchmotif.datasets.perovskite import perovskite
from torchmotif.datasets.polar import polar_perovskite
from torchmotif.datasets.probe import AberratedProbe, DiskProbe, GaussianProbe
from torchmotif.datasets.projection import projection
from torchmotif.datasets.specimen import Specimen, Truth
from torchmotif.datasets.strain import edge_dislocation, homogeneous, strain_bump, strain_gradient
from torchmotif.datasets.surroundings import with_carbon, with_edge, with_patch, with_wedge

__all__ = [
    "AberratedProbe",
    "Detector",
    "DiskProbe",
    "GaussianProbe",
    "Scan",
    "Specimen",
    "Truth",
    "colloid",
    "dumbbells",
    "edge_dislocation",
    "from_atoms",
    "homogeneous",
    "mose2",
    "mx2",
    "nanoparticle",
    "pentagonal_oxide",
    "perovskite",
    "polar_perovskite",
    "projection",
    "rectangular",
    "rocksalt",
    "square",
    "strain_bump",
    "strain_gradient",
    "twisted_bilayer_mos2",
    "with_bar",
    "with_carbon",
    "with_edge",
    "with_fill",
    "with_frames",
    "with_mosaic",
    "with_patch",
    "with_wedge",
]
