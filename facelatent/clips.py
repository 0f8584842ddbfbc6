"""Clips: the frames of faces whose edits, styles and persons run along a timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from facelatent.domain_adapt import Style
from facelatent.editing import AttributeEdit, apply_edits, draw, shift_of
from facelatent.errors import FacelatentError
from facelatent.latent import Latent
from facelatent.render import Key, Timeline
from facelatent.stylegan_ops import Generator

#: How codes are walked between: around the mean face, or straight.
Walk = Literal["spherical", "linear"]
#: Names on a timeline that are no attributes: where between the faces, 0 the first; strength of all styles; that of
#: the second is "style.2".
WALK, STYLE = "walk", "style"


@dataclass(frozen=True)
class Scene:
    """What a timeline moves.

    Attributes:
        generator: draws, without a style.
        latents: a face, or several to walk between.
        edits: by their names on the timeline; their own strengths do not count.
        styles: each with its strength where the timeline does not say another.
        walk: how codes are walked between.
    """

    generator: Generator
    latents: tuple[Latent, ...]
    edits: Mapping[str, AttributeEdit] = field(default_factory=dict)
    styles: Sequence[tuple[Style, float]] = ()
    walk: Walk = "spherical"

    def check(self, timeline: Timeline) -> None:
        """Raise FacelatentError for a name or place on the timeline that this scene does not have."""
        numbered = [style_name(number) for number in range(1, len(self.styles) + 1)]
        known = {*self.edits, *([STYLE, *numbered] if self.styles else []), *([WALK] if len(self.latents) > 1 else [])}
        if unknown := [name for name in timeline.names if name not in known]:
            raise FacelatentError(
                f"nothing in this clip is called {unknown[0]!r} (it has {', '.join(sorted(known)) or 'no edits'})"
            )
        if STYLE in timeline.names and set(numbered) & set(timeline.names):
            raise FacelatentError(f"a key changes all styles ({STYLE}) or single ones ({numbered[0]}), not both")
        if WALK in timeline.names:
            low, high = timeline.span(WALK)
            if low < 0 or high > len(self.latents) - 1:
                raise FacelatentError(f"{WALK} is from 0 to {len(self.latents) - 1}, one less than there are faces")

    def edits_at(self, values: Mapping[str, float]) -> list[AttributeEdit]:
        """The edits of a frame."""
        return [replace(one, alpha=values[name]) for name, one in self.edits.items() if name in values]

    def picture(self, values: Mapping[str, float], drawing: Generator, size: int) -> Image.Image:
        """The frame of a timeline's numbers, by the generator that :meth:`drawing` gives for them."""
        edits = self.edits_at(values)
        ws = apply_edits(self._ws(values), edits, self.generator)
        return draw(drawing, ws, size, shift_of(edits))[0]

    def drawing(self, values: Mapping[str, float]) -> Generator:
        """The generator in a frame's styles, tuned to its person: tunings fade into each other."""
        generator = self.generator
        for number, (style, given) in enumerate(self.styles, 1):
            strength = values.get(style_name(number), given * values.get(STYLE, 1.0))
            if strength:
                generator = style.applied(generator, strength)
        index, share = self._place(values)
        for latent, part in zip(self.latents[index : index + 2], (1 - share, share), strict=False):
            if latent.delta is not None and part:
                tensors = {name: part * value for name, value in latent.delta.tensors.items()}
                generator = replace(latent.delta, tensors=tensors).applied(generator)
        return generator

    def _place(self, values: Mapping[str, float]) -> tuple[int, float]:
        """The face that was left, and how far it is to the next."""
        place = values.get(WALK, 0.0)
        index = min(int(place), max(len(self.latents) - 2, 0))
        return index, place - index

    def _ws(self, values: Mapping[str, float]) -> Tensor:
        index, share = self._place(values)
        if share == 0:
            return self.latents[index].ws
        first, last = (latent.ws.to(self.generator.device) for latent in self.latents[index : index + 2])
        if self.walk == "linear":
            return torch.lerp(first, last, share)
        return around(first, last, share, self.generator.w_avg)


def style_name(number: int) -> str:
    """What a style is called on a timeline, counted from 1."""
    return f"{STYLE}.{number}"


def around(first: Tensor, last: Tensor, share: float, centre: Tensor) -> Tensor:
    """Codes on the way from one face to another that keep their distance from the mean face, layer by layer.

    On a straight line the middle is nearer to the mean face than both ends: it loses what makes a person. Here the
    direction from the mean turns evenly (Shoemake, "Animating rotation with quaternion curves", 1985, slerp) while
    the distance runs evenly from one to the other.

    Args:
        first: [n, num_ws, 512].
        last: likewise.
        share: 0 gives ``first``, 1 ``last``.
        centre: [512] the mean of w.
    """
    a, b = first - centre, last - centre
    lengths = [part.norm(dim=-1, keepdim=True).clamp_min(1e-12) for part in (a, b)]
    a, b = a / lengths[0], b / lengths[1]
    angle = torch.arccos((a * b).sum(-1, keepdim=True).clamp(-1, 1))
    sine = torch.sin(angle)
    turned = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / sine
    # Equal or opposite directions have no plane to turn in.
    direction = torch.where(sine < 1e-4, torch.lerp(a, b, share), turned)
    return centre + torch.lerp(lengths[0], lengths[1], share) * direction


def timeline_frames(
    scene: Scene, timeline: Timeline, places: Sequence[float], size: int = 512, progress: bool = False
) -> list[Image.Image]:
    """Frames of a scene; frames with equal numbers are one picture, drawn once.

    Args:
        scene: what is shown.
        timeline: what moves.
        places: times of the frames, see :meth:`~facelatent.render.Timeline.places`.
        size: side in pixels.
        progress: show a progress bar.

    Raises:
        FacelatentError: as :meth:`Scene.check`.
    """
    scene.check(timeline)
    wanted = [tuple(timeline.at(place).items()) for place in places]
    drawn: dict[tuple[tuple[str, float], ...], Image.Image] = {}
    look, drawing = None, scene.generator
    for numbers in tqdm(dict.fromkeys(wanted), desc="drawing", unit="frame", disable=not progress):
        values = dict(numbers)
        # A styled or tuned generator takes longer to make than a picture: it is kept while only edits change.
        now = {name: value for name, value in numbers if name not in scene.edits}
        if look != now:
            look, drawing = now, scene.drawing(values)
        drawn[numbers] = scene.picture(values, drawing, size)
    return [drawn[numbers] for numbers in wanted]


def animation_frames(
    generator: Generator,
    latent: Latent,
    starts: Sequence[AttributeEdit],
    ends: Sequence[AttributeEdit],
    frames: int,
    size: int = 512,
    bounce: bool = True,
    progress: bool = False,
) -> list[Image.Image]:
    """Frames of one face, from edited by ``starts`` to edited by ``ends``: those fade out while these fade in.

    Args:
        generator: draws, in its style if it has one.
        latent: the face.
        starts: edits of the first frame.
        ends: edits of the last frame, or of the turning point.
        frames: how many; there and back, an odd count loses one.
        size: side in pixels.
        bounce: run there and back, so that the loop closes; speed eases at both ends.
        progress: show a progress bar.
    """
    fading = {f"start {number}": one for number, one in enumerate(starts)}
    rising = {f"end {number}": one for number, one in enumerate(ends)}
    first = {name: one.alpha for name, one in fading.items()} | dict.fromkeys(rising, 0.0)
    last = dict.fromkeys(fading, 0.0) | {name: one.alpha for name, one in rising.items()}
    timeline = Timeline((Key(0, first), Key(1, last)), "smooth" if bounce else "linear")
    scene = Scene(generator, (latent,), fading | rising)
    return timeline_frames(scene, timeline, timeline.places(frames, "back" if bounce else "once"), size, progress)
