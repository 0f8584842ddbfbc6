"""Attribute scorers, boundaries and edits."""

from facelatent.boundaries.boundary import Boundary
from facelatent.boundaries.codes import ScoredCodes
from facelatent.boundaries.edits import draw_edited, edit, edit_layers, held, project, style_shift, walk
from facelatent.boundaries.fitting import fit_boundary
from facelatent.boundaries.loading import load_boundary, shipped_boundaries
from facelatent.boundaries.measures import measure_faces
from facelatent.boundaries.published import is_published, load_published, published_names
from facelatent.boundaries.regions import limited, region_mask
from facelatent.boundaries.sampling import make_shards, read_scores, sample_scores
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
from facelatent.boundaries.targets import Goal, Reached, reach
from facelatent.boundaries.training import TrainSettings, train_boundary

__all__ = [
    "SCORERS",
    "Boundary",
    "FaceScorer",
    "Goal",
    "Reached",
    "ScoredCodes",
    "Scorer",
    "TrainSettings",
    "catalogue",
    "draw_edited",
    "edit",
    "edit_layers",
    "find_scorers",
    "fit_boundary",
    "geometry",
    "held",
    "is_published",
    "limited",
    "load_boundary",
    "load_published",
    "locate_faces",
    "make_shards",
    "measure_faces",
    "project",
    "published_names",
    "reach",
    "read_scores",
    "region_mask",
    "sample_scores",
    "score_faces",
    "shipped_boundaries",
    "style_shift",
    "train_boundary",
    "walk",
]
