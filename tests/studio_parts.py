"""What the studio's tests share: a workbench with two sliders on the tiny generator, and a stand-in for inversion."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from facelatent import editing
from facelatent.boundaries import Boundary
from facelatent.inversion.alignment import AlignedFace
from facelatent.latent import Latent
from facelatent.progress import Progress, progress_bar
from facelatent.studio import Workbench
from facelatent.studio import session as session_module
from facelatent.stylegan_ops import Generator

#: Steps of the stand-in for inversion.
STEPS = 5


class Colours:
    """Scores of pictures that need no face: how bright, and how red beside blue."""

    name = "colours"
    attributes: tuple[str, ...] = ("bright", "red")


def measure(images: Tensor, scorers: tuple[Colours, ...] = ()) -> dict[str, np.ndarray]:
    """What :class:`Colours` names."""
    return {
        "bright": images.mean((1, 2, 3)).numpy(),
        "red": (images[:, 0] - images[:, 2]).mean((1, 2)).numpy(),
    }


def steepest(name: str, generator: Generator) -> Tensor:
    """The unit direction in which a score of :func:`measure` rises fastest from the mean face."""
    w = generator.w_avg.clone().requires_grad_(True)
    image = generator.synthesis(generator.broadcast(w[None]))
    score = image.mean() if name == "bright" else (image[:, 0] - image[:, 2]).mean()
    (gradient,) = torch.autograd.grad(score, w)
    return gradient / gradient.norm()


def workbench(generator: Generator, folder: Path) -> Workbench:
    """Two sliders, of which the first changes what the second does, too; their files can be named by commands."""
    red = steepest("red", generator)
    both = steepest("bright", generator) + red
    made = [
        Boundary(name, normal, 0.0, 0.6, None, generator.name, generator.fingerprint)
        for name, normal in (("bright", both / both.norm()), ("red", red))
    ]
    for one in made:
        one.save(folder / f"{one.attribute}.boundary.safetensors")
    return Workbench(generator, {str(folder / f"{one.attribute}.boundary.safetensors"): one for one in made})


def picture_bytes(kind: str = "JPEG", size: tuple[int, int] = (80, 60)) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let :func:`measure` be all that measures pictures."""
    monkeypatch.setattr(editing, "SCORERS", (Colours(),))
    monkeypatch.setattr(editing, "score_faces", measure)
    monkeypatch.setattr(session_module, "SCORERS", (Colours(),))


@pytest.fixture
def easy_inversion(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Take any picture for an aligned face, and seed 5 for what inversion finds, after :data:`STEPS` steps."""

    def crop(image: Image.Image, size: int, number: int | None = None, source: str = "") -> AlignedFace:
        left, top, right, bottom = -0.5, -0.5, image.width - 0.5, image.height - 0.5
        quad = np.array([[left, top], [left, bottom], [right, bottom], [right, top]])
        return AlignedFace(image.resize((size, size)), quad, None)  # type: ignore[arg-type]

    def invert_with(
        recipe: object, image: Image.Image, generator: Generator, progress: Progress = False, **others: object
    ) -> Latent:
        with progress_bar("inverting", STEPS, progress) as bar:
            for _ in range(STEPS):
                bar.update()
        ws = generator.broadcast(generator.sample_w(5, 0.7)).contiguous()
        return Latent(ws, generator.name, generator.fingerprint, {"method": "made up", **others})

    monkeypatch.setattr(session_module, "aligned_crop", crop)
    monkeypatch.setattr(session_module, "invert_with", invert_with)
    return None
