"""Encoders: from a picture of a face to its code in one pass."""

from facelatent.inversion.encoders.heads import E4eEncoder, PspEncoder, WEncoder, WPlusEncoder
from facelatent.inversion.encoders.irse import ArcFace

__all__ = ["ArcFace", "E4eEncoder", "PspEncoder", "WEncoder", "WPlusEncoder"]
