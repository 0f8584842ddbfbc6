"""Boundaries by name or file: the shipped ones, a user's own, and those that other projects publish."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from facelatent.boundaries.boundary import SUFFIX, Boundary
from facelatent.boundaries.published import is_published, load_published
from facelatent.errors import UnknownAttribute
from facelatent.stylegan_ops import Generator


def shipped_boundaries() -> dict[str, Path]:
    """The boundary files that come with facelatent, by attribute."""
    folder = resources.files("facelatent.boundaries") / "library"
    files = (Path(str(file)) for file in folder.iterdir() if file.name.endswith(SUFFIX))
    return {file.name.removesuffix(SUFFIX): file for file in sorted(files)}


def load_boundary(name_or_file: str | Path, generator: Generator | None = None) -> Boundary:
    """Load a boundary by attribute name (``smile``), or from a file: our own, or what other projects publish.

    Args:
        name_or_file: see ``facelatent attributes`` for the names; for other projects' files, see
            :func:`~facelatent.boundaries.published.load_published`.
        generator: checked against, if given; the boundary is fitted to its layers.

    >>> load_boundary("smile").steps.shape
    torch.Size([16, 512])

    Raises:
        UnknownAttribute: no shipped boundary has that name, and no such file exists.
        InvalidFile: the file is no boundary.
        IncompatibleLatent: it was fitted on another generator.
    """
    shipped = shipped_boundaries()
    path = shipped.get(str(name_or_file), Path(name_or_file))
    if is_published(path):
        return load_published(path, generator)
    if not path.is_file():
        near = difflib.get_close_matches(str(name_or_file), shipped, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownAttribute(f"unknown attribute {str(name_or_file)!r}{hint} (known: {', '.join(shipped)})")
    boundary = Boundary.load(path)
    if generator is None:
        return boundary
    boundary.check(generator)
    return boundary.fitted_to(generator)
