"""The plane graph of columns: neighbours, faces, dual, vertex figures, canonical codes."""

from torchmotif.plane_graph.codes import Code, Corners, Shapes, canonical_shapes
from torchmotif.plane_graph.embedding import Embedding
from torchmotif.plane_graph.faces import Faces
from torchmotif.plane_graph.graph import PlaneGraph
from torchmotif.plane_graph.tiling import Tiling

__all__ = ["Code", "Corners", "Embedding", "Faces", "PlaneGraph", "Shapes", "Tiling", "canonical_shapes"]
