"""Attribute scorers, boundaries and edits."""

from facelatent.boundaries.boundary import Boundary, load_boundary, shipped_boundaries
from facelatent.boundaries.edits import edit, edit_layers
from facelatent.boundaries.fitting import fit_boundary
from facelatent.boundaries.sampling import ScoredCodes, sample_scores
from facelatent.boundaries.scorers import SCORERS, Scorer, geometry, locate_faces, score_faces

__all__ = [
    "SCORERS",
    "Boundary",
    "ScoredCodes",
    "Scorer",
    "edit",
    "edit_layers",
    "fit_boundary",
    "geometry",
    "load_boundary",
    "locate_faces",
    "sample_scores",
    "score_faces",
    "shipped_boundaries",
]
