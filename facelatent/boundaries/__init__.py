"""Attribute scorers, boundaries and edits."""

from facelatent.boundaries.boundary import Boundary, load_boundary, shipped_boundaries
from facelatent.boundaries.edits import edit, edit_layers
from facelatent.boundaries.fitting import fit_boundary
from facelatent.boundaries.sampling import ScoredCodes, Share, make_shards, read_scores, sample_scores
from facelatent.boundaries.scorers import (
    SCORERS,
    FaceScorer,
    Scorer,
    catalogue,
    find_scorers,
    geometry,
    locate_faces,
    score_faces,
)

__all__ = [
    "SCORERS",
    "Boundary",
    "FaceScorer",
    "ScoredCodes",
    "Scorer",
    "Share",
    "catalogue",
    "edit",
    "edit_layers",
    "find_scorers",
    "fit_boundary",
    "geometry",
    "load_boundary",
    "locate_faces",
    "make_shards",
    "read_scores",
    "sample_scores",
    "score_faces",
    "shipped_boundaries",
]
