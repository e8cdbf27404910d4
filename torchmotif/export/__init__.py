"""Structures, shapes and tables for other programs: ASE, CIF, GraphML, JSON, polygons; HyperSpy, AnnData, parquet."""

from torchmotif.export._structures import (
    Species,
    assembly_atoms,
    cells_geojson,
    named_atoms,
    species_of,
    to_atoms,
    write_graphml,
    write_json,
    write_structure,
)
from torchmotif.export._tables import to_anndata, write_h5ad, write_hspy, write_table

__all__ = [
    "Species",
    "assembly_atoms",
    "cells_geojson",
    "named_atoms",
    "species_of",
    "to_anndata",
    "to_atoms",
    "write_graphml",
    "write_h5ad",
    "write_hspy",
    "write_json",
    "write_structure",
    "write_table",
]
