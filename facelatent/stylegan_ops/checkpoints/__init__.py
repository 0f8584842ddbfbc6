"""Read public StyleGAN2 checkpoints without running their code, and write them in any layout."""

from facelatent.stylegan_ops.checkpoints.build import (
    Inspection,
    Target,
    build_generator,
    convert,
    inspect_checkpoint,
    pack,
)
from facelatent.stylegan_ops.checkpoints.checkpoint import Checkpoint, read_checkpoint
from facelatent.stylegan_ops.checkpoints.containers import Contents, read_contents
from facelatent.stylegan_ops.checkpoints.kinds import KINDS

__all__ = [
    "KINDS",
    "Checkpoint",
    "Contents",
    "Inspection",
    "Target",
    "build_generator",
    "convert",
    "inspect_checkpoint",
    "pack",
    "read_checkpoint",
    "read_contents",
]
