"""Pictures of one latent in any look."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from PIL import Image

from facelatent.clips import animation_frames
from facelatent.editing import (
    AttributeEdit,
    apply_edits,
    draw,
    paste_edit,
    shift_of,
    targeted,
)
from facelatent.latent import Latent
from facelatent.studio.bench import Workbench
from facelatent.studio.looks import Look
from facelatent.stylegan_ops import Generator

#: Tuned copies of generators that are kept; one takes a fifth of a second to make, and some 20 MB.
_KEPT = 4


class Drawing:
    """Draws one latent, and remembers what is slow to find: counter-edits of holds, tuned generators.

    Args:
        bench: whose generator, boundaries and styles.
        latent: the face without edits.

    Attributes:
        latent: as given.
    """

    def __init__(self, bench: Workbench, latent: Latent) -> None:
        self.latent = latent
        self._bench = bench
        self._generators: dict[tuple[str | None, float], Generator] = {}
        self._found: dict[Look, dict[str, float]] = {}
        self._missed: dict[Look, str] = {}
        self._held: dict[str, float] = {}

    def settle(self, look: Look) -> None:
        """Measure what holds a look's scores, unless that is known.

        Raises:
            FacelatentError: they cannot be measured in this face.
        """
        if look in self._found:
            return
        self._found[look] = self._holding(look) if look.holds else {}
        self._held.update(self._found[look])

    def held(self, look: Look) -> dict[str, float]:
        """Strengths that hold a look's scores, as far as they were measured."""
        return self._found.get(look, {})

    def remark(self, look: Look) -> str:
        """Which scores of a look could not be held, or nothing."""
        return self._missed.get(look, "")

    def picture(self, look: Look, size: int | None = None) -> Image.Image:
        """A look, ``size`` px square (the generator's own resolution if None); errors as :meth:`settle`."""
        return self._draw(look, self._edits(self._strengths(look)), size)

    def preview(self, look: Look, size: int) -> Image.Image:
        """A look, quickly: what holds scores is what it was when a look was last settled."""
        found = self._found.get(look, {name: self._held.get(name, 0.0) for name in look.holds})
        return self._draw(look, self._edits({**dict(look.alphas), **found}), size)

    def frames(self, look: Look, count: int, size: int) -> list[Image.Image]:
        """Frames from the unedited face to a look and back; none where nothing would move."""
        edits = self._edits(self._strengths(look))
        if not edits:
            return []
        side = min(size, self._bench.generator.resolution)
        return animation_frames(self._styled(look), self.latent, [], edits, count, side)

    def pasted(self, look: Look, photo: Image.Image) -> Image.Image:
        """The photo with the face in it in a look."""
        return paste_edit(photo, self.latent, self._styled(look), self._edits(self._strengths(look))).image

    def _strengths(self, look: Look) -> dict[str, float]:
        """Strengths of all attributes of a look, those that hold scores among them."""
        self.settle(look)
        return {**dict(look.alphas), **self._found[look]}

    def _holding(self, look: Look) -> dict[str, float]:
        goals = [(AttributeEdit(self._bench.boundaries[name], 0.0), None) for name in look.holds]
        edits = self._edits(dict(look.alphas))
        made, missed = targeted(edits, goals, self.latent, self._bench.generator)
        self._missed[look] = "; ".join(missed)
        return {name: one.alpha for name, one in zip(look.holds, made[len(edits) :], strict=True)}

    def _edits(self, strengths: Mapping[str, float]) -> list[AttributeEdit]:
        return [AttributeEdit(self._bench.boundaries[name], alpha) for name, alpha in strengths.items() if alpha]

    @torch.no_grad()
    def _draw(self, look: Look, edits: list[AttributeEdit], size: int | None) -> Image.Image:
        ws = apply_edits(self.latent.ws, edits, self._bench.generator)
        return draw(self._generator(look), ws, size, shift_of(edits))[0]

    def _styled(self, look: Look) -> Generator:
        generator = self._bench.generator
        if look.style is None:
            return generator
        return self._bench.shelf.applied(look.style, generator, look.style_strength)

    def _generator(self, look: Look) -> Generator:
        """What draws this face in a look's style; those made last are kept."""
        key = look.style, look.style_strength
        if key not in self._generators:
            if len(self._generators) == _KEPT:
                del self._generators[next(iter(self._generators))]
            self._generators[key] = self.latent.generator_for(self._styled(look))
        return self._generators[key]
