"""Style: what adaptation changed in a generator, in a file of a few megabytes, for any strength and for mixtures.

A style is not a generator: it is differences of weights against a source generator, float16, and those of matrices as
products of two narrow ones where little is lost. ``W_source + strength * difference`` shares the source's mapping, so
latents and boundaries of the source draw and edit the adapted domain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facelatent.delta import changed
from facelatent.errors import FacelatentError, IncompatibleLatent, InvalidFile
from facelatent.files import reading, save_tensors
from facelatent.stylegan_ops import Generator, same_w_space

#: Usual ending of style files.
SUFFIX = ".style.safetensors"
#: The largest style file that is opened, in bytes: every weight of a 1024 px StyleGAN2 in float16, and room.
MAX_BYTES = 128 << 20
#: Ranks that are tried where none is asked for, and the share of what a style changes in pictures that may be lost.
RANKS = (8, 16, 32, 64)
MOST_LOST = 0.05

_FORMAT = 1
_WHOLE, _LEFT, _RIGHT = "delta.", "left.", "right."
#: What makes w and statistics of it: a style that changed them would draw other people.
_FIXED = ("mapping_network.", "w_")
#: Pictures by which a rank is judged, and their side.
_PICTURES, _SIDE = 4, 256


@dataclass(frozen=True)
class Style:
    """Differences of some of a generator's weights, made by adaptation.

    Attributes:
        whole: by the weight's name in ``state_dict()``, its difference, float16.
        factors: likewise of weights in low rank: [outputs, r] and [r, inputs * kernel], whose product is the
            difference with all but its first dimension flattened; float16.
        generator: name of the source generator.
        fingerprint: that generator's fingerprint.
        w_space: that generator's W space.
        name: what it is called.
        report: how it was made: reference, settings, seconds.
    """

    whole: dict[str, Tensor]
    factors: dict[str, tuple[Tensor, Tensor]]
    generator: str
    fingerprint: str
    w_space: str
    name: str = "style"
    report: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_deltas(
        cls,
        generator: Generator,
        deltas: Mapping[str, Tensor],
        rank: int | None = None,
        report: Mapping[str, Any] | None = None,
        name: str = "style",
    ) -> Style:
        """The style of differences against ``generator``.

        Args:
            generator: the source.
            deltas: differences by the weights' names in ``state_dict()``, in their shapes; those that are zero are
                left out.
            rank: of every matrix that it makes smaller. 0 for none: differences are kept whole. None for the lowest of
                :data:`RANKS` that changes pictures by :data:`MOST_LOST` of what the style changes (root mean square
                over four faces), and whole if none does; the report then says which, and what is lost.
            report: see the attribute.
            name: what it is called.

        Raises:
            FacelatentError: differences that are not finite, too large for float16, of weights that the generator
                does not have, or of those that make w.
            ValueError: a negative rank.
        """
        if rank is not None and rank < 0:
            raise ValueError(f"a rank is 1 or more, or 0 for none, not {rank}")
        source = generator.source
        weights = source.state_dict()
        for key, delta in deltas.items():
            _check_difference(key, delta, weights)
        halves = {key: delta.detach().to("cpu", torch.float16) for key, delta in deltas.items() if delta.any()}
        made = dict(report or {})
        style = cls(halves, {}, source.name, source.fingerprint, source.w_space, name, made)
        if rank == 0:
            return style
        parts = _decomposed(halves)
        return _narrowest(style, parts, source) if rank is None else _narrowed(style, parts, rank)

    @classmethod
    def from_generators(
        cls,
        source: Generator,
        adapted: Generator,
        rank: int | None = None,
        report: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Style:
        """The style that turns ``source`` into ``adapted``, such as a published NADA or DIFA checkpoint.

        Raises:
            IncompatibleLatent: they have other weights, or another W space.
            FacelatentError: as :meth:`from_deltas`.
        """
        before, after = (_weights(one) for one in (source, adapted))
        same_weights = {key: value.shape for key, value in before.items()} == {k: v.shape for k, v in after.items()}
        if not same_weights or not same_w_space(source.w_space, adapted.w_space):
            raise IncompatibleLatent(
                f"{adapted.name} was not adapted from {source.name}: its {'W space' if same_weights else 'layers'} "
                "differ; pass the generator that it started from"
            )
        deltas = {key: after[key] - before[key] for key in before if not key.startswith(_FIXED)}
        return cls.from_deltas(source, deltas, rank, report, name or adapted.name)

    @property
    def bytes(self) -> int:
        """Size of the tensors in a file; its header adds some 10 KB."""
        tensors = [*self.whole.values(), *(part for pair in self.factors.values() for part in pair)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def ranks(self) -> dict[str, int]:
        """Ranks of the weights in low rank."""
        return {key: left.shape[1] for key, (left, _) in self.factors.items()}

    def names(self) -> set[str]:
        """Names of the weights that differ."""
        return {*self.whole, *self.factors}

    def difference(self, name: str) -> Tensor:
        """The difference of one weight, float32: in its shape, or [outputs, inputs * kernel] if in low rank."""
        if name in self.whole:
            return self.whole[name].float()
        left, right = self.factors[name]
        return left.float() @ right.float()

    def check(self, generator: Generator) -> None:
        """Raise IncompatibleLatent unless this style belongs to ``generator``, or to what that was made from."""
        source = generator.source
        if self.fingerprint != source.fingerprint:
            related = same_w_space(self.w_space, source.w_space)
            reason = "which has its W space but other weights" if related else "whose W space is another, too"
            raise IncompatibleLatent(
                f"the style {self.name!r} belongs to generator {self.generator} ({self.fingerprint}), not to "
                f"{source.name} ({source.fingerprint}), {reason}; pass --generator {self.generator} or adapt "
                f"{source.name}"
            )
        weights = source.state_dict()
        for key in self.names():
            if key not in weights or self._shape(key, weights[key]) != weights[key].shape:
                raise IncompatibleLatent(
                    f"the style {self.name!r} is damaged: {source.name} has no such weight as {key}"
                )

    def applied(self, generator: Generator, strength: float = 1.0) -> Generator:
        """An adapted copy of ``generator``: its weights and ``strength`` times the differences.

        Only what differs is copied; ``generator`` stays as it is, and is the copy's
        :attr:`~facelatent.stylegan_ops.Generator.source`.

        Args:
            generator: the source; or a generator tuned to a face, or adapted by another style: differences add.
            strength: 1 as it was trained, 0 nothing, 0.6 to 0.8 a milder one; above 1.2 it is overdone.

        Raises:
            IncompatibleLatent: the style belongs to another generator.
            FacelatentError: the strength is not a number.
        """
        self.check(generator)
        if not math.isfinite(strength):
            raise FacelatentError(f"a style's strength is a number such as 0.8, not {strength}")
        weights = generator.source.state_dict()

        def difference(key: str) -> Tensor:
            return strength * self.difference(key).reshape(weights[key].shape)

        adapted = changed(generator, self.names(), difference)
        adapted.name = f"{generator.name}+{self.name}"
        return adapted

    def save(self, path: str | Path) -> None:
        """Write ``path`` (usually ``NAME.style.safetensors``) atomically."""
        tensors = {_WHOLE + key: value for key, value in self.whole.items()}
        for key, (left, right) in self.factors.items():
            tensors |= {_LEFT + key: left, _RIGHT + key: right}
        metadata = {
            "format": _FORMAT,
            "kind": "style",
            "name": self.name,
            "generator": self.generator,
            "fingerprint": self.fingerprint,
            "w_space": self.w_space,
            "report": self.report,
        }
        save_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Style:
        """Read a style file.

        Raises:
            InvalidFile: the file is missing, too large, or not a style of a known format.
        """
        if Path(path).is_file() and (size := Path(path).stat().st_size) > MAX_BYTES:
            raise InvalidFile(f"{path} has {size >> 20} MB; a style has {MAX_BYTES >> 20} MB at most")
        with reading(path, "style", (_FORMAT,)) as (_, tensors, metadata):
            whole, left, right = parts = [_named(tensors, prefix) for prefix in (_WHOLE, _LEFT, _RIGHT)]
            fitting = left.keys() == right.keys() and not left.keys() & whole.keys()
            if not fitting or sum(map(len, parts)) != len(tensors) or not _products(left, right):
                raise InvalidFile(f"{path} is damaged: its tensors do not fit together")
            if not all(bool(value.isfinite().all()) for value in tensors.values()):
                raise InvalidFile(f"{path} is damaged: it has values that are not finite")
            return cls(whole, {key: (left[key], right[key]) for key in left}, **metadata)

    def _shape(self, key: str, weight: Tensor) -> torch.Size:
        """The shape that a difference has, if its product's can be that of ``weight``."""
        if key in self.whole:
            return self.whole[key].shape
        left, right = self.factors[key]
        flat = torch.Size([len(left), right.shape[1]])
        fits = weight.ndim > 1 and flat == weight.flatten(1).shape
        return weight.shape if fits else flat


def mix(styles: Sequence[tuple[Style, float]], name: str | None = None) -> Style:
    """Several styles of one generator as one: the sum of their differences, each times its weight.

    Args:
        styles: with their weights, such as ``[(mona, 0.6), (other, 0.4)]``.
        name: what the mixture is called.

    Raises:
        IncompatibleLatent: they belong to different generators.
        FacelatentError: there is none, a weight is not a number, or the sum is too large for float16.
    """
    if not styles or not all(math.isfinite(weight) for _, weight in styles):
        raise FacelatentError("a mixture has one style or more, each with a weight such as 0.5")
    first = styles[0][0]
    if others := sorted({style.generator for style, _ in styles if style.fingerprint != first.fingerprint}):
        raise IncompatibleLatent(
            f"styles of different generators cannot be mixed: {first.name!r} belongs to {first.generator} and others "
            f"to {', '.join(others)}"
        )
    whole: dict[str, Tensor] = {}
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for key in sorted({key for style, _ in styles for key in style.names()}):
        having = [(style, weight) for style, weight in styles if key in style.names()]
        if all(key in style.factors for style, _ in having):
            pairs = [(weight * style.factors[key][0].float(), style.factors[key][1]) for style, weight in having]
            factors[key] = _half(torch.cat([left for left, _ in pairs], 1)), torch.cat([right for _, right in pairs])
        else:
            shape = next(style.whole[key].shape for style, _ in having if key in style.whole)
            parts = [weight * style.difference(key).reshape(shape) for style, weight in having]
            whole[key] = _half(torch.stack(parts).sum(0))
    shares = [{"style": style.name, "weight": weight} for style, weight in styles]
    called = name or "+".join(f"{weight:g}*{style.name}" for style, weight in styles)
    return Style(whole, factors, first.generator, first.fingerprint, first.w_space, called, {"mixed": shares})


def _weights(generator: Generator) -> dict[str, Tensor]:
    """Everything that a fingerprint covers, float32, on the CPU."""
    state = generator.state_dict()
    return {key: value.detach().float().cpu() for key, value in state.items() if not key.startswith("w_")}


def _check_difference(name: str, delta: Tensor, weights: Mapping[str, Tensor]) -> None:
    if name not in weights or weights[name].shape != delta.shape:
        raise FacelatentError(f"no weight is called {name} with the shape {list(delta.shape)} in this generator")
    if name.startswith(_FIXED):
        raise FacelatentError(f"{name} is part of what makes w: a style that changes it would not share its W space")
    if not bool(delta.half().isfinite().all()):
        raise FacelatentError(f"the difference of {name} is not finite, or too large for float16: adapt more gently")


def _half(value: Tensor) -> Tensor:
    halved = value.half()
    if not bool(halved.isfinite().all()):
        raise FacelatentError("the mixture's differences are too large for float16: lower its weights")
    return halved


def _decomposed(differences: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Of every matrix its left singular vectors, each times its value, and its right ones; most important first."""
    parts = {}
    for key, difference in differences.items():
        depthwise = difference.ndim == 4 and difference.shape[1] == 1
        if difference.ndim > 1 and not depthwise and not key.endswith(("noise", "const")):
            left, values, right = torch.linalg.svd(difference.float().flatten(1), full_matrices=False)
            parts[key] = left * values, right
    return parts


def _narrowed(style: Style, parts: Mapping[str, tuple[Tensor, Tensor]], rank: int) -> Style:
    """The style with every matrix in ``rank``, where that is smaller."""
    factors = {}
    for key, (left, right) in parts.items():
        if rank * (len(left) + right.shape[1]) < len(left) * right.shape[1]:
            narrow, wide = left[:, :rank], right[:rank]
            even = (wide.norm() / narrow.norm()).sqrt()  # equal sizes: float16 has few digits for small numbers
            factors[key] = (narrow * even).half(), (wide / even).half()
    whole = {key: value for key, value in style.whole.items() if key not in factors}
    return replace(style, whole=whole, factors=factors)


@torch.no_grad()
def _narrowest(style: Style, parts: Mapping[str, tuple[Tensor, Tensor]], source: Generator) -> Style:
    """The style in the lowest of :data:`RANKS` that pictures hardly show."""
    ws = source.broadcast(source.typical_ws(_PICTURES))
    side = min(_SIDE, source.resolution)

    def pictures(generator: Generator) -> Tensor:
        return torch.cat([generator.synthesis(code, resolution=side) for code in torch.split(ws, 1)])

    wanted = pictures(style.applied(source))
    change = float((wanted - pictures(source)).square().mean().sqrt())
    for rank in RANKS:
        narrow = _narrowed(style, parts, rank)
        lost = float((pictures(narrow.applied(source)) - wanted).square().mean().sqrt())
        if narrow.factors and lost <= MOST_LOST * change:
            return replace(narrow, report={**style.report, "rank": rank, "lost": round(lost / change, 4)})
    return style


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _products(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Whether every two factors can be multiplied."""
    pairs = [(left[key], right[key]) for key in left]
    return all(a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0] for a, b in pairs)
