"""Attribute scorers: what a picture of a face looks like, in numbers."""

from facelatent.boundaries.scorers.celeba import CelebaScorer
from facelatent.boundaries.scorers.clip import ClipScorer
from facelatent.boundaries.scorers.colour import ColourScorer, colours
from facelatent.boundaries.scorers.geometry import GeometryScorer, geometry
from facelatent.boundaries.scorers.glasses import GlassesScorer
from facelatent.boundaries.scorers.interface import FaceScorer, Scorer, Scores, facts, locate_faces
from facelatent.boundaries.scorers.networks import AgeScorer, EmotionScorer, GenderScorer
from facelatent.boundaries.scorers.onnx import OnnxScorer, OnnxSpec
from facelatent.boundaries.scorers.quality import QualityScorer
from facelatent.boundaries.scorers.registry import SCORERS, Catalogue, catalogue, find_scorers, score_faces

__all__ = [
    "SCORERS",
    "AgeScorer",
    "Catalogue",
    "CelebaScorer",
    "ClipScorer",
    "ColourScorer",
    "EmotionScorer",
    "FaceScorer",
    "GenderScorer",
    "GeometryScorer",
    "GlassesScorer",
    "OnnxScorer",
    "OnnxSpec",
    "QualityScorer",
    "Scorer",
    "Scores",
    "catalogue",
    "colours",
    "facts",
    "find_scorers",
    "geometry",
    "locate_faces",
    "score_faces",
]
