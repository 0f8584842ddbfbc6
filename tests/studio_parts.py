"""What the studio's tests share: a workbench with two sliders on the tiny generator, and a stand-in for inversion."""

from __future__ import annotations

import io
import itertools
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from facelatent import editing
from facelatent.boundaries import Boundary
from facelatent.domain_adapt import Style
from facelatent.faces import Face
from facelatent.inversion.alignment import AlignedFace
from facelatent.latent import Latent
from facelatent.progress import Progress, progress_bar
from facelatent.studio import StyleShelf, Workbench
from facelatent.studio import bench as bench_module
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


def with_style(bench: Workbench, folder: Path) -> Workbench:
    """The same with a style to choose, ``klimt``, which makes everything brighter; its file is in ``folder``."""
    biases = {
        name: torch.full_like(bias, 0.5)
        for name, bias in bench.generator.named_parameters()
        if "to_img" in name and bias.ndim == 1
    }
    file = folder / "klimt.safetensors"
    Style.from_deltas(bench.generator, biases, rank=0).save(file)
    return replace(bench, shelf=StyleShelf.read([file], bench.generator))


def picture_bytes(kind: str = "JPEG", size: tuple[int, int] = (80, 60)) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    gradient = Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90)  # left and right differ
    gradient.resize(size).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("me.jpg", picture_bytes())
    return buffer.getvalue()


_SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file"
_NO_IMAGE, _NO_LATENT, _CUT = "is not an image", "is not a facelatent safetensors file", "damaged or cut off"
#: Files that are refused: contents, a name, and a part of the message.
BAD_FILES = {
    "empty": (b"", "me.jpg", "is empty"),
    "truncated": (picture_bytes(size=(400, 300))[:900], "me.jpg", _CUT),
    "truncated PNG": (picture_bytes("PNG", (400, 300))[:300], "me.png", _CUT),
    "truncated WebP": (picture_bytes("WEBP", (400, 300))[:100], "me.webp", _CUT),
    "truncated TIFF": (picture_bytes("TIFF", (400, 300))[:200], "me.tif", ""),
    "text": (b"I am a face, honestly\n" * 50, "me.png", _NO_IMAGE),
    "page": (b"<!doctype html><script>alert(1)</script>", "me.jpg", _NO_IMAGE),
    "svg": (_SVG, "me.svg", _NO_IMAGE),
    "zip": (_zipped(), "me.jpg", _NO_IMAGE),
    "pdf": (b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj", "me.jpg", _NO_IMAGE),
    "postscript": (_EPS, "me.jpg", _NO_IMAGE),
    "program": (b"MZ\x90\0" + bytes(500), "me.exe", _NO_IMAGE),
    "film": (b"\0\0\0\x20ftypisom" + bytes(500), "me.mp4", _NO_IMAGE),
    "signature alone": (b"\x89PNG\r\n\x1a\n", "me.png", "me.png"),
    "zeros": (bytes(100_000), "me.jpg", _NO_IMAGE),
    "another kind": (picture_bytes("PPM"), "me.ppm", _NO_IMAGE),
    "pickle": (pickle.dumps({"ws": print}), "me.latent.safetensors", _NO_LATENT),
    "photo called latent": (picture_bytes(), "me.safetensors", _NO_LATENT),
    "photo called LATENT": (picture_bytes(), "me.SAFETENSORS", _NO_LATENT),
    "empty latent": (b"", "me.latent.safetensors", _NO_LATENT),
    "endless header": ((1 << 62).to_bytes(8, "little") + b"{" * 100, "me.safetensors", _NO_LATENT),
}


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let :func:`measure` be all that measures pictures."""
    monkeypatch.setattr(editing, "SCORERS", (Colours(),))
    monkeypatch.setattr(editing, "score_faces", measure)
    monkeypatch.setattr(bench_module, "SCORERS", (Colours(),))


@pytest.fixture
def easy_inversion(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Take a picture for as many faces as squares fit into it, and seed 5 for what inversion finds, after STEPS steps.

    A face's landmarks are nothing but eyes, as far apart as its square is high.
    """

    def faces(image: Image.Image, source: str = "") -> list[Face]:
        count = max(image.width // image.height, 1)
        edges = np.linspace(0, image.width, count + 1)
        landmarks = np.zeros((68, 2))
        landmarks[42:48, 0] = image.height
        return [Face((left, 0, right, image.height), 1.0, landmarks) for left, right in itertools.pairwise(edges)]

    def crop(image: Image.Image, face: Face, size: int) -> AlignedFace:
        left, top, right, bottom = (edge - 0.5 for edge in face.box)
        quad = np.array([[left, top], [left, bottom], [right, bottom], [right, top]])
        return AlignedFace(image.resize((size, size), box=face.box), quad, face)

    def invert_with(
        recipe: object, image: Image.Image, generator: Generator, progress: Progress = False, **others: object
    ) -> Latent:
        with progress_bar("inverting", STEPS, progress) as bar:
            for _ in range(STEPS):
                bar.update()
        ws = generator.broadcast(generator.sample_w(5, 0.7)).contiguous()
        return Latent(ws, generator.name, generator.fingerprint, {"method": "made up", **others})

    monkeypatch.setattr(session_module, "sure_faces", faces)
    monkeypatch.setattr(session_module, "crop_face", crop)
    monkeypatch.setattr(session_module, "invert_with", invert_with)
    return None
