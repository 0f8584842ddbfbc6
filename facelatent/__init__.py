"""facelatent: edit faces in the latent space of a StyleGAN."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Boundary",
    "Editor",
    "Face",
    "FacelatentError",
    "Generator",
    "Latent",
    "Style",
    "__version__",
    "align_face",
    "edit",
    "find_faces",
    "invert",
    "load_boundary",
    "load_encoder",
    "load_generator",
    "show",
]

# Names are imported on first use: the command line must answer --version without loading torch.
_HOMES = {
    "Boundary": "facelatent.boundaries",
    "Editor": "facelatent.editor",
    "Face": "facelatent.faces",
    "FacelatentError": "facelatent.errors",
    "Generator": "facelatent.stylegan_ops",
    "Latent": "facelatent.latent",
    "Style": "facelatent.domain_adapt",
    "align_face": "facelatent.inversion",
    "edit": "facelatent.boundaries",
    "find_faces": "facelatent.inversion",
    "invert": "facelatent.inversion",
    "load_boundary": "facelatent.boundaries",
    "load_encoder": "facelatent.inversion",
    "load_generator": "facelatent.stylegan_ops",
    "show": "facelatent.notebook",
}

if TYPE_CHECKING:
    from facelatent.boundaries import Boundary, edit, load_boundary
    from facelatent.domain_adapt import Style
    from facelatent.editor import Editor
    from facelatent.errors import FacelatentError
    from facelatent.faces import Face
    from facelatent.inversion import align_face, find_faces, invert, load_encoder
    from facelatent.latent import Latent
    from facelatent.notebook import show
    from facelatent.stylegan_ops import Generator, load_generator


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'facelatent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
