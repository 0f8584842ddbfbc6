"""Strips, grids, animations and their timelines."""

from facelatent.render.animation import (
    ANIMATION_SUFFIXES,
    Clip,
    check_animation,
    check_frames,
    save_animation,
    save_frames,
)
from facelatent.render.captions import Caption, beside, captioned
from facelatent.render.layout import grid, strip
from facelatent.render.timeline import EASES, Ease, Key, Timeline, Way, between, there_and_back

__all__ = [
    "ANIMATION_SUFFIXES",
    "EASES",
    "Caption",
    "Clip",
    "Ease",
    "Key",
    "Timeline",
    "Way",
    "beside",
    "between",
    "captioned",
    "check_animation",
    "check_frames",
    "grid",
    "save_animation",
    "save_frames",
    "strip",
    "there_and_back",
]
