"""The ways from a photo to a latent: an encoder, optimisation, tuning, and what makes sense of them together."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

import torch
from PIL import Image
from torch import Tensor

from facelatent.delta import GeneratorDelta
from facelatent.errors import FacelatentError, UnreadableImage
from facelatent.inversion.alignment import aligned_crop
from facelatent.inversion.dlib_face import load_dlib_face
from facelatent.inversion.encoders import Encoder, shipped_encoder
from facelatent.inversion.optimize import (
    COMPARE_SIDE,
    OptimizeSettings,
    crop_tensor,
    optimize,
    reconstruction_metrics,
)
from facelatent.inversion.perceptual import Net, load_lpips
from facelatent.inversion.tuning import TuneSettings, tune
from facelatent.latent import Latent
from facelatent.progress import Progress
from facelatent.stylegan_ops import Generator

#: From the fastest to the most faithful; what stands before a plus is the start of what stands behind it.
METHODS = ("encoder", "encoder+optimize", "encoder+optimize+tune", "optimize", "optimize+tune")

#: Steps of optimisation where tuning follows: it makes up for the rest in less time.
STEPS_BEFORE_TUNING = 120

#: The share of a time limit that optimisation gets if tuning follows.
_OPTIMIZE_SHARE = 0.4
#: Seconds of a time limit that are kept for measuring the result.
_MEASURING = 1.5


@dataclass(frozen=True)
class Recipe:
    """How a photo becomes a latent.

    Attributes:
        method: one of :data:`METHODS`; None for ``encoder+optimize+tune`` if there is an encoder, else
            ``optimize+tune``.
        optimize: settings of the optimisation; None for the defaults, with :data:`STEPS_BEFORE_TUNING` steps if tuning
            follows.
        tune: settings of the tuning.
        encoder: where methods with ``encoder`` start; None for :func:`default_encoder`.
        time_limit: seconds that an inversion may take, about, once its networks are there; schedules are
            shortened to fit, and the result depends on the machine. None for as long as the steps take.
    """

    method: str | None = None
    optimize: OptimizeSettings | None = None
    tune: TuneSettings = field(default_factory=TuneSettings)
    encoder: Encoder | None = None
    time_limit: float | None = None

    def encoder_for(self, generator: Generator) -> Encoder | None:
        """The encoder that is used with ``generator``, if there is one."""
        return self.encoder or default_encoder(generator)

    def method_for(self, generator: Generator) -> str:
        """The method that is used with ``generator``.

        Raises:
            ValueError: there is no such method.
        """
        if self.method is None:
            return "optimize+tune" if self.encoder_for(generator) is None else "encoder+optimize+tune"
        if self.method not in METHODS:
            raise ValueError(f"unknown inversion method {self.method!r}; known: {', '.join(METHODS)}")
        return self.method

    def settings_for(self, generator: Generator) -> OptimizeSettings:
        """The optimisation's settings that are used with ``generator``."""
        if self.optimize is not None:
            return self.optimize
        tuned = "tune" in self.method_for(generator)
        return OptimizeSettings.with_steps(STEPS_BEFORE_TUNING if tuned else None)

    def settled(self, generator: Generator) -> Recipe:
        """The same recipe with the encoder, the method and the settings that are used with ``generator`` written out.

        Whoever asks several times asks this one: to find its encoder, a generator's weights are hashed.

        Raises:
            ValueError: there is no such method.
        """
        found = replace(self, encoder=self.encoder_for(generator))
        return replace(found, method=found.method_for(generator), optimize=found.settings_for(generator))

    def described(self, generator: Generator) -> dict[str, Any]:
        """What a latent records, so that the same recipe is known again: only what the method uses."""
        method = self.method_for(generator)
        record: dict[str, Any] = {"method": method, "time_limit": self.time_limit}
        if "encoder" in method:
            encoder = self.encoder_for(generator)
            record["encoder"] = None if encoder is None else encoder.name
        if "optimize" in method:
            record["settings"] = asdict(self.settings_for(generator))
        if "tune" in method:
            record["tuning"] = asdict(self.tune)
        return record


def default_encoder(generator: Generator) -> Encoder | None:
    """The encoder that comes with facelatent for ``generator``, on its device; None if there is none."""
    encoder = shipped_encoder(generator.name)
    if encoder is None or encoder.home.fingerprint != generator.fingerprint:
        return None
    return encoder.to(generator.device)


def invert(
    image: Image.Image,
    generator: Generator,
    method: str | None = None,
    aligned: bool = False,
    face: int | None = None,
    settings: OptimizeSettings | None = None,
    photo_sha256: str | None = None,
    source: str = "the picture",
    progress: Progress = False,
    tune_settings: TuneSettings | None = None,
    encoder: Encoder | None = None,
    time_limit: float | None = None,
) -> Latent:
    """Find the latent whose picture looks like the face in ``image``.

    Args:
        image: a photo, or an aligned crop.
        generator: draws the reconstruction; it is not changed. For an adapted one the photo is inverted with its
            source, which shares its codes.
        method: one of :data:`METHODS`; see :class:`Recipe` for the default.
        aligned: ``image`` is an FFHQ-aligned crop already: do not look for a face.
        face: which face, 1 = best-scored; None takes the best.
        settings: of the optimisation.
        photo_sha256: checksum of the photo's file, recorded in the latent.
        source: what messages call the photo.
        progress: show progress bars with the current loss, or what to tell instead.
        tune_settings: of the tuning.
        encoder: where methods with ``encoder`` start.
        time_limit: seconds; see :class:`Recipe`.

    Returns:
        A latent with the crop's quad, what the generator was tuned by, and, in ``metrics``, what
        :func:`~facelatent.inversion.reconstruction_metrics` measures.

    Raises:
        NoFaceFound: see :func:`facelatent.inversion.aligned_crop`.
        UnreadableImage: ``aligned``, but the picture is not square.
        IncompatibleLatent: the encoder is for another generator.
        FacelatentError: the method needs an encoder, and there is none.
        ValueError: unknown method.
    """
    recipe = Recipe(method, settings, tune_settings or TuneSettings(), encoder, time_limit)
    return invert_with(recipe, image, generator, aligned, face, photo_sha256, source, progress)


def invert_with(
    recipe: Recipe,
    image: Image.Image,
    generator: Generator,
    aligned: bool = False,
    face: int | None = None,
    photo_sha256: str | None = None,
    source: str = "the picture",
    progress: Progress = False,
) -> Latent:
    """As :func:`invert`, whose arguments, result and errors it has, but by a :class:`Recipe`."""
    generator = generator.source  # a photo is none of an adapted generator's pictures
    recipe = recipe.settled(generator)
    check_recipe(recipe, generator)
    if aligned and image.width != image.height:
        raise UnreadableImage(
            f"{source} is {image.width} x {image.height}: an aligned crop is square; do not say aligned"
        )
    crop = None if aligned else aligned_crop(image, generator.resolution, face, source)
    square = image.convert("RGB") if crop is None else crop.image
    if recipe.time_limit is not None:
        _warm_up(generator)
    began = time.monotonic()
    ws, delta = _found(recipe, square, generator, began, progress)
    drawing = generator if delta is None else delta.applied(generator)
    with torch.no_grad():
        reconstruction = drawing.synthesis(ws, resolution=min(COMPARE_SIDE, generator.resolution))
    return Latent(
        ws.cpu(),
        generator.name,
        generator.fingerprint,
        method={"face": face, "aligned": aligned, **recipe.described(generator)},
        quad=None if crop is None else crop.quad.tolist(),
        photo_sha256=photo_sha256,
        metrics=reconstruction_metrics(crop_tensor(square, reconstruction.shape[-1]), reconstruction.cpu()),
        delta=delta,
    )


def check_recipe(recipe: Recipe, generator: Generator) -> None:
    """Raise now what :func:`invert_with` would raise about a recipe before it looks at a photo.

    Raises:
        FacelatentError: its method starts from an encoder, and ``generator`` has none.
        ValueError: there is no such method.
    """
    method = recipe.method_for(generator)
    if "encoder" in method and recipe.encoder_for(generator) is None:
        without = "optimize+tune" if "tune" in method else "optimize"
        raise FacelatentError(
            f"{generator.name} has no encoder of its own, and the method {method!r} starts from one: pass --encoder "
            f"FILE (a pSp or e4e checkpoint for this generator), or use --method {without}"
        )


def _warm_up(generator: Generator) -> None:
    """Fetch and compile what inversion needs: done once, it may take minutes, which a time limit should not pay for."""
    load_dlib_face()
    for net in get_args(Net):
        load_lpips(net)
    with torch.no_grad():
        generator.synthesis(generator.broadcast(generator.w_avg[None]))


def _found(
    recipe: Recipe, square: Image.Image, generator: Generator, began: float, progress: Progress
) -> tuple[Tensor, GeneratorDelta | None]:
    """Codes of an aligned crop, and the tuning if the method has one."""
    method, encoder = recipe.method_for(generator), recipe.encoder_for(generator)

    def left() -> float | None:
        return None if recipe.time_limit is None else recipe.time_limit - _MEASURING - (time.monotonic() - began)

    ws = None
    if "encoder" in method and encoder is not None:
        with torch.no_grad():
            ws = encoder.encode_for(crop_tensor(square, encoder.input_side).to(generator.device), generator)
    if "optimize" in method:
        seconds = left()
        if seconds is not None and "tune" in method:
            seconds *= _OPTIMIZE_SHARE
        ws = optimize(square, generator, recipe.settings_for(generator), progress, ws, seconds)
    assert ws is not None
    return ws, tune(generator, ws, square, recipe.tune, progress, left()) if "tune" in method else None
