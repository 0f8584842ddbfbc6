"""Photo to latent: alignment, perceptual losses, optimisation."""

from facelatent.faces import Face, find_faces
from facelatent.inversion.alignment import AlignedFace, align_face, aligned_crop, choose_face, crop_quad
from facelatent.inversion.encoders import Encoder, EncoderBundle, load_encoder
from facelatent.inversion.identity import ArcFaceIdentity, DlibIdentity
from facelatent.inversion.optimize import OptimizeSettings, identity_distance, invert, reconstruction_metrics
from facelatent.inversion.perceptual import LPIPS, lpips

__all__ = [
    "LPIPS",
    "AlignedFace",
    "ArcFaceIdentity",
    "DlibIdentity",
    "Encoder",
    "EncoderBundle",
    "Face",
    "OptimizeSettings",
    "align_face",
    "aligned_crop",
    "choose_face",
    "crop_quad",
    "find_faces",
    "identity_distance",
    "invert",
    "load_encoder",
    "lpips",
    "reconstruction_metrics",
]
