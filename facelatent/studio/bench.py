"""What all faces of a studio share, and how its sliders are arranged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from facelatent.boundaries import SCORERS, Boundary
from facelatent.inversion import Recipe
from facelatent.studio.styles import StyleShelf
from facelatent.stylegan_ops import Generator

#: Titles of groups of sliders with the shipped attributes in them, those that people ask for most first.
GROUPS = {
    "Often used": ("smile", "age", "yaw", "gender", "glasses", "hair_brightness"),
    "Expression": ("mouth_open", "eyes_open", "surprise", "anger", "sadness"),
    "Face, pose and light": ("face_width", "skin_tone", "pitch", "lighting"),
}
#: Title of the group of boundaries from files.
OWN = "Yours"


@dataclass(frozen=True)
class Workbench:
    """What all faces of a studio share.

    Attributes:
        generator: draws.
        boundaries: of the sliders, by what a command calls them: an attribute or a file.
        recipe: how photos are inverted; None for the default.
        shelf: styles.
        options: what a command needs to use the same generator, such as ``("--generator", "mine.pkl")``.
    """

    generator: Generator
    boundaries: Mapping[str, Boundary]
    recipe: Recipe | None = None
    shelf: StyleShelf = field(default_factory=StyleShelf)
    options: tuple[str, ...] = ()

    @property
    def holdable(self) -> tuple[str, ...]:
        """Attributes whose score something measures, so that it can be held."""
        measured = {name for scorer in SCORERS for name in scorer.attributes}
        return tuple(name for name, boundary in self.boundaries.items() if boundary.score in measured)

    @property
    def groups(self) -> dict[str, list[str]]:
        """Names of the sliders by titles: the user's own first, as they were asked for."""
        shipped = {name for names in GROUPS.values() for name in names}
        found = {OWN: [name for name in self.boundaries if name not in shipped]}
        found |= {title: [name for name in names if name in self.boundaries] for title, names in GROUPS.items()}
        return {title: names for title, names in found.items() if names}
