"""Atomic columns: where they are, how bright, and how surely."""

from torchmotif.columns.find import find_columns
from torchmotif.columns.lattice import Lattice, find_lattice
from torchmotif.columns.prepare import fill_invalid
from torchmotif.columns.result import Columns
from torchmotif.columns.scale import Spacing, characteristic_spacing

__all__ = [
    "Columns",
    "Lattice",
    "Spacing",
    "characteristic_spacing",
    "fill_invalid",
    "find_columns",
    "find_lattice",
]
