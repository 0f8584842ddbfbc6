"""The styles that the studio offers: a name and a file each, and how a file changes a generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from facelatent.stylegan_ops import Generator


def _unstyled(generator: Generator, file: Path) -> Generator:
    return generator


@dataclass(frozen=True)
class StyleShelf:
    """Styles to choose from; the page shows no picker where there are none.

    Attributes:
        files: style files by the names that the page shows.
        apply: gives a generator in the style of a file; it draws the codes of the one that it was given.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    apply: Callable[[Generator, Path], Generator] = _unstyled
