"""Named errors. A message says what was wrong, what was seen, and what to do next."""

from __future__ import annotations


class FacelatentError(Exception):
    """Base of every error that a user can cause or mend. The command line prints it as one line."""


class UnreadableImage(FacelatentError):
    """A file that is missing, empty, truncated, too large, or not an image."""


class NoFaceFound(FacelatentError):
    """No usable face in a picture, or no face with the number asked for."""


class AssetUnavailable(FacelatentError):
    """A weight file that could not be fetched, or whose checksum is not the pinned one."""


class UnsupportedCheckpoint(FacelatentError):
    """A weight file whose contents are not what they should be."""


class UnsafeCheckpoint(FacelatentError):
    """A weight file that would have to run code to be read."""


class UnknownAttribute(FacelatentError):
    """An attribute name that no shipped boundary carries."""


class IncompatibleLatent(FacelatentError):
    """A latent or boundary that belongs to another generator."""


class InvalidFile(FacelatentError):
    """A latent or boundary file that cannot be read as one."""


class UnwritableOutput(FacelatentError):
    """An output path that cannot be written."""


class KernelsUnavailable(FacelatentError):
    """Compiled kernels cannot be built or loaded on this machine, or do not take these tensors."""


class ScorerUnavailable(FacelatentError):
    """A scorer that does not exist, cannot be loaded, or does not do what a scorer must."""


class GuidanceUnavailable(FacelatentError):
    """An image encoder that guides an adaptation and is not installed, or whose weights cannot be had."""
