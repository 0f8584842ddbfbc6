"""Encoders: from a picture of a face to its code in one pass."""

from facelatent.inversion.encoders.bundle import Encoder, EncoderBundle, EncoderKind, resized
from facelatent.inversion.encoders.compact import CompactEncoder, describe
from facelatent.inversion.encoders.heads import E4eEncoder, PspEncoder, WEncoder, WPlusEncoder
from facelatent.inversion.encoders.home import Home
from facelatent.inversion.encoders.irse import ArcFace
from facelatent.inversion.encoders.reading import encoder_kind, load_encoder, shipped_encoder

__all__ = [
    "ArcFace",
    "CompactEncoder",
    "E4eEncoder",
    "Encoder",
    "EncoderBundle",
    "EncoderKind",
    "Home",
    "PspEncoder",
    "WEncoder",
    "WPlusEncoder",
    "describe",
    "encoder_kind",
    "load_encoder",
    "resized",
    "shipped_encoder",
]
