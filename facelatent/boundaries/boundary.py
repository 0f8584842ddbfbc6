"""Boundary: a hyperplane in W that separates faces with an attribute from faces without it, and its files."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facelatent.errors import IncompatibleLatent, InvalidFile, UnknownAttribute
from facelatent.files import load_tensors, save_tensors
from facelatent.stylegan_ops import Generator, same_w_space

#: Ending of boundary files.
SUFFIX = ".boundary.safetensors"
_FORMAT = 1


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

    def distance(self, w: Tensor) -> Tensor:
        """Signed distance [n] of w [n, 512] from the hyperplane, in standard deviations."""
        return (w @ self.normal.to(w) + self.intercept) / self.std

    def save(self, path: str | Path) -> None:
        """Write ``path`` (usually ``ATTRIBUTE.boundary.safetensors``) atomically."""
        tensors = {"normal": self.normal, "intercept": torch.tensor(self.intercept), "std": torch.tensor(self.std)}
        metadata = {
            "format": _FORMAT,
            "kind": "boundary",
            "attribute": self.attribute,
            "resolutions": self.resolutions,
            "generator": self.generator,
            "fingerprint": self.fingerprint,
            "w_space": self.w_space,
            "report": self.report,
        }
        save_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Boundary:
        """Read a boundary file.

        Raises:
            InvalidFile: the file is missing or is not a boundary of a known format.
        """
        tensors, metadata = load_tensors(path)
        if metadata.pop("kind", None) != "boundary" or tensors.get("normal", torch.empty(0)).ndim != 1:
            raise InvalidFile(f"{path} is a safetensors file but not a boundary")
        if (version := metadata.pop("format", None)) != _FORMAT:
            raise InvalidFile(f"{path} has boundary format {version!r}; this facelatent reads {_FORMAT}: upgrade it")
        resolutions = metadata.pop("resolutions", None)
        try:
            return cls(
                normal=tensors["normal"],
                intercept=float(tensors["intercept"]),
                std=float(tensors["std"]),
                resolutions=tuple(resolutions) if resolutions else None,
                **metadata,
            )
        except (TypeError, KeyError, RuntimeError) as error:
            raise InvalidFile(f"{path} is not a boundary that this facelatent can read ({error})") from error

    def check(self, generator: Generator) -> None:
        """Raise IncompatibleLatent unless this boundary was fitted in the W space of ``generator``."""
        if self.fingerprint != generator.fingerprint and not same_w_space(self.w_space, generator.w_space):
            raise IncompatibleLatent(
                f"the boundary {self.attribute!r} belongs to generator {self.generator} ({self.fingerprint}), "
                f"not to {generator.name} ({generator.fingerprint}); fit one for it"
            )


def shipped_boundaries() -> dict[str, Path]:
    """The boundary files that come with facelatent, by attribute."""
    folder = resources.files("facelatent.boundaries") / "library"
    files = (Path(str(file)) for file in folder.iterdir() if file.name.endswith(SUFFIX))
    return {file.name.removesuffix(SUFFIX): file for file in sorted(files)}


def load_boundary(name_or_file: str | Path, generator: Generator | None = None) -> Boundary:
    """Load a boundary by attribute name (``smile``), or from a file.

    Args:
        name_or_file: see ``facelatent attributes`` for the names.
        generator: checked against, if given.

    Raises:
        UnknownAttribute: no shipped boundary has that name, and no such file exists.
        InvalidFile: the file is no boundary.
        IncompatibleLatent: it was fitted on another generator.
    """
    shipped = shipped_boundaries()
    path = shipped.get(str(name_or_file), Path(name_or_file))
    if not path.is_file():
        near = difflib.get_close_matches(str(name_or_file), shipped, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownAttribute(f"unknown attribute {str(name_or_file)!r}{hint} (known: {', '.join(shipped)})")
    boundary = Boundary.load(path)
    if generator is not None:
        boundary.check(generator)
    return boundary
