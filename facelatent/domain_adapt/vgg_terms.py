"""The terms that suit VGG16: style by statistics and transport, a person by structure, and no grain.

A direction between means of VGG features, DIFA's first loss, holds colours where the source has them: it is CLIP's.
What carries style here is statistics of features, sliced transport of colours, part by part, and for flat areas and
lines relaxed optimal transport of hypercolumns (Kolkin et al., STROTSS, 2019); what keeps people apart is the
self-similarity of their features and their own edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.domain_adapt import pictures
from facelatent.domain_adapt.guidance.vgg import VggGuidance
from facelatent.domain_adapt.losses import relaxed_transport
from facelatent.domain_adapt.parts import PARTS
from facelatent.domain_adapt.pool import SourcePool
from facelatent.domain_adapt.recolouring import colour_map, recoloured
from facelatent.domain_adapt.reference import Reference
from facelatent.domain_adapt.terms import Batch
from facelatent.stylegan_ops import Generator
from facelatent.stylegan_ops.generator import Noise

#: Side of the grid of hypercolumns, and the stages that they are made of (from 0: relu2_2, relu3_3, relu4_3).
_GRID, _STAGES = 32, (1, 2, 3)
#: Of transport's cost: the squared distance of places in sides of the picture, and being of another part.
_PLACE, _OTHER_PART = 0.3, 0.2
#: Side at which colours are compared.
_COLOURS = 64
#: Side at which light and edges are compared, and the blur that is taken from it.
_LIGHT, _HIGH_PASS = 256, 6
#: Gradients, in [-1, 1] a pixel, above which a place is an edge.
_EDGE = 0.08
#: Scales of detail, from the full picture's.
_DETAIL_SCALES = 3
#: Power of a wavelet coefficient, in [-1, 1], below which the source has no detail.
_LEAST_POWER = 1e-6
#: What foreign detail counts, beside missing detail.
_FOREIGN = 0.5
#: Share of the source's detail that is asked for: less contrast is part of some styles.
_LEAST_DETAIL = 0.7
#: Least share of the skin's chroma that even white has: paint is tinted.
_TINT = 0.2
#: The parts whose colours are transported; eyes and mouth have their own.
_COLOURED = PARTS[:3]
#: Share of a picture that a part needs, in it and in the reference, to be compared.
_LEAST_PART = 0.01


@dataclass(frozen=True)
class VggSettings:
    """Weights of the terms, of which 0 leaves one out, and where the run begins.

    Attributes:
        style: relaxed transport of hypercolumns.
        colours: sliced transport of colours at 64 px, part by part.
        statistics: means and deviations of feature maps, relative.
        structure: self-similarity of features, against the source picture's.
        luminance: correlation of high-passed luminance with the source picture's.
        edges: gradients below the source picture's where that has strong edges.
        lattice: what repeats every four pixels.
        detail: the finest luminance, place by place against the source picture's.
        features: colours of eyes and mouth, which keep their relation to the skin's.
        palette: how far towards the references' palette the run begins, 0 to 1.
    """

    style: float = 0.0
    colours: float = 5.0
    statistics: float = 0.6
    structure: float = 6.0
    luminance: float = 3.0
    edges: float = 20.0
    lattice: float = 30.0
    detail: float = 6.0
    features: float = 5.0
    palette: float = 0.7


#: For what is painted: soft modelling, which the source's detail stands for.
PAINTED = VggSettings()
#: For flat areas and lines, which forbid the source's detail: colours count more, and so does what keeps people apart.
GRAPHIC = VggSettings(
    style=4.0, colours=10.0, statistics=1.0, structure=12.0, luminance=6.0, edges=40.0, detail=1.5, palette=1.0
)
#: The root mean square gradient over the median, above which a picture is of flat areas and lines: paintings have about
#: 3, photos up to 7, charcoal 9, prints of flat inks 17 and more.
_GRAPHIC_CONTRAST = 12.0


def suited(references: Sequence[Reference]) -> VggSettings:
    """:data:`GRAPHIC` where most references are of flat areas and lines, else :data:`PAINTED`."""
    graphic = [_edge_contrast(reference.image) > _GRAPHIC_CONTRAST for reference in references]
    return GRAPHIC if 2 * sum(graphic) > len(graphic) else PAINTED


def _edge_contrast(image: Tensor) -> float:
    strength = pictures.gradients(pictures.luminance(pictures.smaller(image, _LIGHT))).norm(dim=1)
    return float(strength.square().mean().sqrt() / strength.median().clamp_min(1e-6))


@dataclass(frozen=True)
class _Wanted:
    """What references ask for.

    Attributes:
        columns: [1, places, channels] hypercolumns of all references.
        places: [places, 2] where each is.
        parts: [places, parts].
        colours: by part [directions, quantiles]; None where a reference has none of it.
        chroma: [2] UV of the references' skin.
        means: of each stage's channels.
        deviations: likewise.
    """

    columns: Tensor
    places: Tensor
    parts: Tensor
    colours: list[Tensor | None]
    chroma: Tensor
    means: list[Tensor]
    deviations: list[Tensor]


class VggTerms:
    """The VGG route; see :class:`~facelatent.domain_adapt.terms.Terms`.

    Args:
        guidance: VGG16.
        references: prepared.
        pool: people of the source generator.
        batch: people a step.
        seed: of their order.
        settings: weights of the terms, and where to begin.
    """

    noise: Noise = "const"

    def __init__(
        self,
        guidance: VggGuidance,
        references: list[Reference],
        pool: SourcePool,
        batch: int = 2,
        seed: int = 0,
        settings: VggSettings = PAINTED,
    ) -> None:
        self.settings = settings
        self._guidance, self._pool, self._size, self._seed = guidance, pool, batch, seed
        self._device = pool.ws.device
        self._small = [pictures.smaller(reference.image, _COLOURS) for reference in references]
        with torch.no_grad():
            self._wanted = self._want([reference.to(self._device) for reference in references])

    def beginning(self, source: Generator) -> dict[str, Tensor]:
        """The weights that draw the pool in the references' palette, as far as is asked for."""
        if not self.settings.palette:
            return {}
        pool = [pictures.smaller(image[None].float().div(127.5).sub(1), _COLOURS) for image in self._pool.images]
        found, wanted = (torch.cat([one.cpu()[0].flatten(1) for one in some], 1).T for some in (pool, self._small))
        return recoloured(source, *colour_map(found, wanted, self.settings.palette))

    def batch(self, step: int) -> Batch:
        """The next people of the pool, in an order that changes with every round."""
        numbers = tuple(self._number(step * self._size + index) for index in range(self._size))
        return Batch(self._pool.ws[list(numbers)], numbers)

    def _number(self, count: int) -> int:
        turn, place = divmod(count, len(self._pool))
        random = torch.Generator().manual_seed(self._seed * 1000 + turn)
        return int(torch.randperm(len(self._pool), generator=random)[place])

    def losses(self, batch: Batch, images: Tensor, step: int) -> dict[str, Tensor]:
        """See :class:`~facelatent.domain_adapt.terms.Terms`."""
        numbers = list(batch.numbers)
        source = self._pool.images[numbers].to(self._device).float().div(127.5).sub(1)
        parts = self._pool.parts[numbers]
        maps = self._guidance.maps(images)
        with torch.no_grad():
            source_maps = self._guidance.maps(source)
        terms: dict[str, Callable[[], Tensor]] = {
            "style": lambda: self._style(maps, parts),
            "colours": lambda: self._colours(images, parts),
            "statistics": lambda: self._statistics(maps),
            "structure": lambda: _structure(maps, source_maps),
            "luminance": lambda: _luminance(images, source),
            "edges": lambda: _edges(images, source),
            "lattice": lambda: _lattice(images, source),
            "detail": lambda: _detail(images, source),
            "features": lambda: self._features(images, source, parts),
        }
        weights = asdict(self.settings)
        return {name: weights[name] * term() for name, term in terms.items() if weights[name]}

    def state(self) -> dict[str, Tensor]:
        """Nothing: each step is made of the pool."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing to do."""

    def described(self) -> dict[str, Any]:
        """Facts for the report."""
        return {"guidance": self._guidance.name, "people": len(self._pool)}

    def _want(self, references: list[Reference]) -> _Wanted:
        maps = [self._guidance.maps(reference.image) for reference in references]
        places = _places(self._device)
        parts = [_grid_parts(reference.parts[None])[0] for reference in references]
        together = [torch.cat(stage) for stage in zip(*maps, strict=True)]
        colours = [
            _part_colours([(reference.image[0], reference.parts[part]) for reference in references])
            for part in range(len(_COLOURED))
        ]
        return _Wanted(
            torch.cat([_hypercolumns(one)[0] for one in maps])[None],
            places.repeat(len(references), 1),
            torch.cat(parts),
            colours,
            torch.stack([_skin_chroma(reference.image[0], reference.parts) for reference in references]).mean(0),
            [stage.mean((0, 2, 3)) for stage in together],
            [stage.std((0, 2, 3)) for stage in together],
        )

    def _style(self, maps: list[Tensor], parts: Tensor) -> Tensor:
        columns = _hypercolumns(maps)
        cost = 1 - columns @ self._wanted.columns.transpose(1, 2)
        apart = torch.cdist(_places(columns.device), self._wanted.places).square()
        unlike = 1 - _grid_parts(parts) @ self._wanted.parts.T
        return relaxed_transport(cost + _PLACE * apart + _OTHER_PART * unlike).mean()

    def _colours(self, images: Tensor, parts: Tensor) -> Tensor:
        total = images.new_zeros(())
        small = pictures.smaller(images, _COLOURS)
        for image, masks in zip(small, parts, strict=True):
            for wanted, mask in zip(self._wanted.colours, masks, strict=False):
                if wanted is not None and mask.mean() > _LEAST_PART:
                    found = pictures.colour_quantiles(image.flatten(1), _at(mask, image).flatten())
                    total = total + mask.mean() * (found - wanted).abs().mean()
        return total / len(images)

    def _features(self, images: Tensor, source: Tensor, parts: Tensor) -> Tensor:
        """Teeth and eyes stay as much paler than the skin as they were; lips as much redder."""
        total = images.new_zeros(())
        small, kept = pictures.smaller(images, _LIGHT), pictures.smaller(source, _LIGHT)
        wanted = self._wanted.chroma
        across = torch.stack([-wanted[1], wanted[0]]) / wanted.norm().clamp_min(1e-4)
        for image, before, masks in zip(small, kept, parts, strict=True):
            mask = _at(masks[PARTS.index("features")], image)
            skin = _skin_chroma(before, masks)
            length = skin.norm().clamp_min(1e-2)
            chroma = pictures.yuv(before[None])[0, 1:]
            along = torch.einsum("c,chw->hw", skin / length, chroma) / length
            beside = torch.einsum("c,chw->hw", torch.stack([-skin[1], skin[0]]) / length, chroma)
            along = _TINT + (1 - _TINT) * along.clamp(0, 1.5)
            target = along * wanted[:, None, None] + beside * across[:, None, None]
            unlike = (pictures.yuv(image[None])[0, 1:] - target).abs().mean(0)
            total = total + (mask * unlike).sum() / mask.sum().clamp_min(1.0)
        return total / len(images)

    def _statistics(self, maps: list[Tensor]) -> Tensor:
        total = maps[0].new_zeros(())
        for found, mean, deviation in zip(maps, self._wanted.means, self._wanted.deviations, strict=True):
            total = total + ((found.mean((2, 3)) - mean).norm(dim=1) / mean.norm()).mean()
            total = total + ((found.std((2, 3)) - deviation).norm(dim=1) / deviation.norm()).mean()
        return total


def _places(device: torch.device) -> Tensor:
    """[GRID * GRID, 2] in [0, 1]."""
    steps = (torch.arange(_GRID, device=device) + 0.5) / _GRID
    places: Tensor = torch.cartesian_prod(steps, steps)
    return places


def _hypercolumns(maps: list[Tensor]) -> Tensor:
    """Unit vectors [n, GRID * GRID, channels] of three stages side by side, each of which counts the same."""
    stages = [F.normalize(F.adaptive_avg_pool2d(maps[stage], _GRID), dim=1) for stage in _STAGES]
    columns = torch.cat(stages, 1).flatten(2).transpose(1, 2)
    return columns / math.sqrt(len(_STAGES))


def _grid_parts(parts: Tensor) -> Tensor:
    """Masks [n, parts, 64, 64] -> unit vectors [n, GRID * GRID, parts]."""
    return F.normalize(F.adaptive_avg_pool2d(parts, _GRID).flatten(2).transpose(1, 2), dim=2)


def _at(mask: Tensor, image: Tensor) -> Tensor:
    """A mask [64, 64] at the size of an image [c, h, h]."""
    return pictures.resized(mask[None, None], image.shape[-1])[0, 0]


def _part_colours(pairs: list[tuple[Tensor, Tensor]]) -> Tensor | None:
    """The colour quantiles of one part of all references, each an image [3, H, H] and a mask."""
    small = [(pictures.smaller(image[None], _COLOURS)[0], mask) for image, mask in pairs]
    if max(float(mask.mean()) for _, mask in small) < _LEAST_PART:
        return None
    colours = torch.cat([image.flatten(1) for image, _ in small], 1)
    return pictures.colour_quantiles(colours, torch.cat([_at(mask, image).flatten() for image, mask in small]))


def _skin_chroma(image: Tensor, parts: Tensor) -> Tensor:
    """Mean UV [2] of the skin of an image [3, H, H] with masks [4, 64, 64]."""
    mask = parts[PARTS.index("skin")]
    chroma = pictures.yuv(pictures.smaller(image[None], _COLOURS))[0, 1:]
    mask = _at(mask, chroma)
    found: Tensor = (mask * chroma).sum((1, 2)) / mask.sum().clamp_min(1e-4)
    return found


def _structure(maps: list[Tensor], source_maps: list[Tensor]) -> Tensor:
    """Self-similarity of relu4_3 and, half as much, relu3_3: Kolkin et al., equation 8, by plain cosines."""
    total = maps[0].new_zeros(())
    for stage, weight in ((3, 1.0), (2, 0.5)):
        found, kept = (_similarities(one[stage]) for one in (maps, source_maps))
        total = total + weight * (found - kept).abs().mean()
    return total


def _similarities(found: Tensor) -> Tensor:
    """Cosines [n, k, k] among the places of a map, on a grid of 16."""
    columns = F.normalize(F.adaptive_avg_pool2d(found, _GRID // 2).flatten(2), dim=1)
    similar: Tensor = columns.transpose(1, 2) @ columns
    return similar


def _luminance(images: Tensor, source: Tensor) -> Tensor:
    found, kept = (_high_passed(one) for one in (images, source))
    return (1 - F.cosine_similarity(found, kept, dim=1)).mean()


def _high_passed(images: Tensor) -> Tensor:
    light = pictures.luminance(pictures.smaller(images, _LIGHT))
    return (light - pictures.blurred(light, _HIGH_PASS)).flatten(1)


def _edges(images: Tensor, source: Tensor) -> Tensor:
    found, kept = (pictures.gradients(pictures.luminance(pictures.smaller(one, _LIGHT))) for one in (images, source))
    strength = kept.square().sum(1, keepdim=True).sqrt()
    along = (found * kept).sum(1, keepdim=True) / strength.clamp_min(1e-4)
    strong = ((strength - _EDGE) / _EDGE).clamp(0, 1)
    return (strong * (0.8 * strength - along).relu()).mean()


def _lattice(images: Tensor, source: Tensor) -> Tensor:
    found, kept = (pictures.phase_pattern(pictures.luminance(one)) for one in (images, source))
    return (found - kept).abs().mean()


def _detail(images: Tensor, source: Tensor) -> Tensor:
    """Finest luminance, at three scales, that is not the source's made stronger or fainter; and how much fainter it is.

    Place by place: beside hair, a weave on skin counts for nothing in a whole picture's correlation, and one white spot
    makes up for all that is wiped away. What is foreign counts less than what is missing, or everything would be.
    """
    total = images.new_zeros(())
    found, kept = pictures.luminance(images), pictures.luminance(source)
    for _ in range(_DETAIL_SCALES):
        now, before = (pictures.haar_details(one).flatten(1, 2) for one in (found, kept))
        alike, power = (_around((one * before).sum(1, keepdim=True)) for one in (now, before))
        share = alike / power.clamp_min(_LEAST_POWER)
        foreign = (now - share.relu() * before).abs().mean()
        missing = ((_LEAST_DETAIL - share).relu() * before.abs()).mean()
        total = total + (_FOREIGN * foreign + missing) / before.abs().mean().clamp_min(1e-4)
        found, kept = F.avg_pool2d(found, 2), F.avg_pool2d(kept, 2)
    return total / _DETAIL_SCALES


def _around(values: Tensor) -> Tensor:
    """Means over 9 x 9 places."""
    return F.avg_pool2d(values, 9, 1, 4, count_include_pad=False)
