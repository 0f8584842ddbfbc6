"""Strips, grids and animations."""

from facelatent.render.animation import ANIMATION_SUFFIXES, check_animation, save_animation, there_and_back
from facelatent.render.layout import grid, strip

__all__ = ["ANIMATION_SUFFIXES", "check_animation", "grid", "save_animation", "strip", "there_and_back"]
