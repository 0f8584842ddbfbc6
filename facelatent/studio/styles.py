"""The styles that the studio offers, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facelatent.domain_adapt import Style
from facelatent.errors import FacelatentError
from facelatent.stylegan_ops import Generator


@dataclass(frozen=True)
class StyleShelf:
    """Styles to choose from; the page shows no picker where there are none.

    Attributes:
        files: style files by the names that the page shows.
        styles: what is in them.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    styles: Mapping[str, Style] = field(default_factory=dict)

    @classmethod
    def read(cls, files: Sequence[Path], generator: Generator) -> StyleShelf:
        """Read style files, which are called by their names without the ending.

        Raises:
            InvalidFile: one cannot be read.
            IncompatibleLatent: one belongs to another generator.
            FacelatentError: two have the same name.
        """
        named = {file.name.removesuffix(".safetensors"): file for file in files}
        if len(named) < len(files):
            raise FacelatentError("two of the styles have the same name: rename one of the files")
        styles = {name: Style.load(file) for name, file in named.items()}
        for style in styles.values():
            style.check(generator)
        return cls(named, styles)

    def applied(self, name: str, generator: Generator, strength: float = 1.0) -> Generator:
        """``generator`` in a style; it draws the codes of the one that it was given."""
        return self.styles[name].applied(generator, strength)
