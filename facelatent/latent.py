"""Latent: W+ codes together with what they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facelatent.delta import GeneratorDelta
from facelatent.errors import IncompatibleLatent, InvalidFile
from facelatent.files import reading, save_tensors
from facelatent.stylegan_ops import Generator

#: Ending of latent files.
SUFFIX = ".latent.safetensors"
#: Version of files: with a tuning, older versions of facelatent must not draw them without it.
_PLAIN, _TUNED = 1, 2
_DELTA = "delta."


@dataclass(frozen=True)
class Latent:
    """Codes of one or more faces.

    Attributes:
        ws: [n, num_ws, 512] W+ codes.
        generator: name of the generator that they belong to.
        fingerprint: that generator's fingerprint.
        method: how they came about, e.g. ``optimize`` or ``sample``, with its settings.
        quad: [4, 2] corners of the aligned crop in the source photo (after EXIF rotation), in pixels: top left, bottom
            left, bottom right, top right; None if there is no photo.
        photo_sha256: checksum of the source photo's file.
        metrics: what was measured on the reconstruction.
        delta: how the generator was tuned to this face; None if it was not.
    """

    ws: Tensor
    generator: str
    fingerprint: str
    method: dict[str, Any] = field(default_factory=dict)
    quad: list[list[float]] | None = None
    photo_sha256: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    delta: GeneratorDelta | None = None

    @classmethod
    def sample(cls, generator: Generator, seed: int, psi: float = 0.7) -> Latent:
        """A random face: a seed means the same one on every machine; ``psi`` is truncation, 0 the mean face, 1 none."""
        with torch.no_grad():
            ws = generator.broadcast(generator.sample_w(seed, psi)).contiguous()
        source, method = generator.source, {"method": "sample", "seed": seed, "psi": psi}
        return cls(ws, source.name, source.fingerprint, method)

    def save(self, path: str | Path) -> None:
        """Write ``path`` (usually ``NAME.latent.safetensors``) atomically."""
        metadata = {
            "format": _PLAIN if self.delta is None else _TUNED,
            "kind": "latent",
            "generator": self.generator,
            "fingerprint": self.fingerprint,
            "method": self.method,
            "quad": self.quad,
            "photo_sha256": self.photo_sha256,
            "metrics": self.metrics,
        }
        tuning = {} if self.delta is None else self.delta.tensors
        save_tensors(path, {"ws": self.ws, **{_DELTA + name: value for name, value in tuning.items()}}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Latent:
        """Read a latent file.

        Raises:
            InvalidFile: the file is missing or is not a latent of a known format.
        """
        with reading(path, "latent", (_PLAIN, _TUNED)) as (version, tensors, metadata):
            tuning = {name.removeprefix(_DELTA): value for name, value in tensors.items() if name.startswith(_DELTA)}
            if tensors["ws"].ndim != 3:
                raise ValueError(f"its codes have the shape {list(tensors['ws'].shape)}, not [n, layers, 512]")
            if bool(tuning) != (version == _TUNED):
                raise InvalidFile(f"{path} is damaged: its format, {version}, and its tensors do not fit together")
            delta = GeneratorDelta(tuning, metadata.get("fingerprint", "")) if tuning else None
            return cls(tensors["ws"], **metadata, delta=delta)

    def check(self, generator: Generator) -> None:
        """Raise IncompatibleLatent unless these codes belong to ``generator``, or to what it was adapted from."""
        source = generator.source
        if self.fingerprint != source.fingerprint or self.ws.shape[1] != source.num_ws:
            raise IncompatibleLatent(
                f"this latent belongs to generator {self.generator} ({self.fingerprint}), "
                f"not to {source.name} ({source.fingerprint}); pass --generator {self.generator} or invert again"
            )

    def generator_for(self, generator: Generator) -> Generator:
        """What draws this latent: ``generator``, or a copy of it tuned to this face.

        Raises:
            IncompatibleLatent: these codes, or their tuning, do not belong to ``generator``.
        """
        self.check(generator)
        return generator if self.delta is None else self.delta.applied(generator)

    def with_ws(self, ws: Tensor) -> Latent:
        """The same latent with other codes."""
        return replace(self, ws=ws)
