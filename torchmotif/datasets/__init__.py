"""Simulated specimens whose truth is known."""

from torchmotif.datasets.atoms import from_atoms
from torchmotif.datasets.bilayer import twisted_bilayer_mos2
from torchmotif.datasets.colloid import colloid
from torchmotif.datasets.instrument import Detector, Scan
from torchmotif.datasets.mx2 import mose2, mx2
from torchmotif.datasets.oxide import pentagonal_oxide
from torchmotif.datasets.perovskite import perovskite
from torchmotif.datasets.probe import AberratedProbe, DiskProbe, GaussianProbe
from torchmotif.datasets.specimen import Specimen, Truth
from torchmotif.datasets.strain import strain_bump

__all__ = [
    "AberratedProbe",
    "Detector",
    "DiskProbe",
    "GaussianProbe",
    "Scan",
    "Specimen",
    "Truth",
    "colloid",
    "from_atoms",
    "mose2",
    "mx2",
    "pentagonal_oxide",
    "perovskite",
    "strain_bump",
    "twisted_bilayer_mos2",
]
