"""Photo to latent: alignment, perceptual losses, optimisation; and back into the photo."""

from facelatent.faces import Face, find_faces
from facelatent.inversion.alignment import AlignedFace, align_face, aligned_crop, choose_face, crop_quad
from facelatent.inversion.encoders import Encoder, EncoderBundle, load_encoder
from facelatent.inversion.identity import ArcFaceIdentity, DlibIdentity
from facelatent.inversion.optimize import OptimizeSettings, identity_distance, invert, reconstruction_metrics
from facelatent.inversion.paste import PasteMask, PasteSettings, paste, paste_mask, photo_mask, quad_crop
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
    "PasteMask",
    "PasteSettings",
    "align_face",
    "aligned_crop",
    "choose_face",
    "crop_quad",
    "find_faces",
    "identity_distance",
    "invert",
    "load_encoder",
    "lpips",
    "paste",
    "paste_mask",
    "photo_mask",
    "quad_crop",
    "reconstruction_metrics",
]
