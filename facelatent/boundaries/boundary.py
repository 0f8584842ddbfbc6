"""Boundary: a hyperplane in W that separates faces with an attribute from those without it; its steps and files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facelatent.errors import IncompatibleLatent, InvalidFile
from facelatent.files import reading, save_tensors
from facelatent.stylegan_ops import Generator, same_w_space

#: Ending of boundary files.
SUFFIX = ".boundary.safetensors"
#: Version of files: older versions of facelatent must not edit along the normal where a file says otherwise.
_PLAIN, _STEPPED = 1, 2
_STYLE = "style."


@dataclass(frozen=True)
class Boundary:
    """A separating hyperplane ``normal . w + intercept = 0`` and how to edit with it (Shen et al., InterFaceGAN, 2020).

    Attributes:
        attribute: what it separates, e.g. ``smile``.
        normal: [512] unit normal; the positive side has more of the attribute.
        intercept: signed distance of the hyperplane from the origin; the distance of w is ``normal . w + intercept``.
        std: standard deviation of w along the normal. A strength of 1 moves by one of these.
        resolutions: first and last resolution at which edits apply by default; None for all layers.
        generator: name of the generator that it was fitted on.
        fingerprint: that generator's fingerprint.
        w_space: that generator's W space: the boundary also acts on other generators that share it, such as a
            StyleGAN2 and the student that was distilled from it with its mapping network.
        report: how it was fitted and how well it separates: scorer, sample count, seed, accuracies.
        steps: [num_ws, 512] what a strength of 1 adds to each W+ layer; None to add ``std * normal`` to every one.
        layer_resolutions: the resolutions of the layers of ``steps``, as a generator gives them.
        styles: what a strength of 1 adds to style space S, [channels] by layer name; W+ codes then stay as they are
            unless ``steps`` moves them, too.
    """

    attribute: str
    normal: Tensor
    intercept: float
    std: float
    resolutions: tuple[int, int] | None = None
    generator: str = ""
    fingerprint: str = ""
    w_space: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    steps: Tensor | None = None
    layer_resolutions: tuple[int, ...] = ()
    styles: dict[str, Tensor] = field(default_factory=dict)

    @property
    def score(self) -> str:
        """Name of the score that it was fitted to, such as ``happy``; the attribute's own where none is recorded."""
        return str(self.report.get("score", self.attribute))

    def step(self, num_ws: int) -> Tensor:
        """[num_ws, 512] what a strength of 1 adds to W+ codes.

        Raises:
            IncompatibleLatent: it has steps for another number of layers.
        """
        if self.steps is None:
            whole = self.std * self.normal
            return (torch.zeros_like(whole) if self.styles else whole).expand(num_ws, -1)
        if len(self.steps) != num_ws:
            raise IncompatibleLatent(
                f"the boundary {self.attribute!r} moves {len(self.steps)} layers and the codes have {num_ws}; load it "
                "with load_boundary(file, generator), which fits it to the generator"
            )
        return self.steps

    def fitted_to(self, generator: Generator) -> Boundary:
        """This boundary with ``steps`` for the layers of ``generator``: those of the same resolutions."""
        if self.steps is None or self.layer_resolutions == generator.layer_resolutions:
            return self
        rows = []
        for index, side in enumerate(generator.layer_resolutions):
            own = [row for row, other in enumerate(self.layer_resolutions) if other == side]
            place = generator.layer_resolutions[:index].count(side)
            rows.append(self.steps[own[min(place, len(own) - 1)]] if own else torch.zeros_like(self.steps[0]))
        return replace(self, steps=torch.stack(rows), layer_resolutions=generator.layer_resolutions)

    def distance(self, w: Tensor) -> Tensor:
        """Signed distance [n] of w [n, 512] from the hyperplane, in standard deviations."""
        return (w @ self.normal.to(w) + self.intercept) / self.std

    def save(self, path: str | Path) -> None:
        """Write ``path`` (usually ``ATTRIBUTE.boundary.safetensors``) atomically."""
        tensors = {"normal": self.normal, "intercept": torch.tensor(self.intercept), "std": torch.tensor(self.std)}
        tensors |= {_STYLE + name: style for name, style in self.styles.items()}
        if self.steps is not None:
            tensors["steps"] = self.steps
        stepped = self.steps is not None or bool(self.styles)
        metadata = {
            "format": _STEPPED if stepped else _PLAIN,
            "kind": "boundary",
            "attribute": self.attribute,
            "resolutions": self.resolutions,
            "generator": self.generator,
            "fingerprint": self.fingerprint,
            "w_space": self.w_space,
            "report": self.report,
            **({"layer_resolutions": self.layer_resolutions} if self.steps is not None else {}),
        }
        save_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Boundary:
        """Read a boundary file.

        Raises:
            InvalidFile: the file is missing or is not a boundary of a known format.
        """
        with reading(path, "boundary", (_PLAIN, _STEPPED)) as (version, tensors, metadata):
            normal, steps = tensors["normal"], tensors.get("steps")
            resolutions, sides = metadata.pop("resolutions", None), tuple(metadata.pop("layer_resolutions", ()))
            styles = {name.removeprefix(_STYLE): value for name, value in tensors.items() if name.startswith(_STYLE)}
            stepped = steps is not None or bool(styles)
            shaped = steps is None or tuple(steps.shape) == (len(sides), len(normal))
            if normal.ndim != 1:
                raise ValueError(f"its normal has the shape {list(normal.shape)}, not [512]")
            if stepped != (version == _STEPPED) or not shaped:
                raise InvalidFile(f"{path} is damaged: its format, {version}, and its tensors do not fit together")
            return cls(
                normal=normal,
                intercept=float(tensors["intercept"]),
                std=float(tensors["std"]),
                resolutions=tuple(resolutions) if resolutions else None,
                steps=steps,
                layer_resolutions=sides,
                styles=styles,
                **metadata,
            )

    def check(self, generator: Generator) -> None:
        """Raise IncompatibleLatent unless this boundary was fitted in the W space of ``generator``, or in its S.

        An adapted generator has those of its source.
        """
        generator = generator.source
        if self.styles and self.fingerprint != generator.fingerprint:
            raise IncompatibleLatent(
                f"the boundary {self.attribute!r} changes channels of the generator {self.generator} "
                f"({self.fingerprint}), which {generator.name} ({generator.fingerprint}) does not have; fit one for it"
            )
        if self.fingerprint != generator.fingerprint and not same_w_space(self.w_space, generator.w_space):
            raise IncompatibleLatent(
                f"the boundary {self.attribute!r} belongs to generator {self.generator} ({self.fingerprint}), "
                f"not to {generator.name} ({generator.fingerprint}); fit one for it"
            )
