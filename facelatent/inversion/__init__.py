"""Photo to latent: alignment, encoders, optimisation, tuning, and their losses; and back into the photo."""

from facelatent.faces import Face, crop_quad, find_faces
from facelatent.inversion.alignment import AlignedFace, align_face, aligned_crop, choose_face
from facelatent.inversion.encoders import Encoder, EncoderBundle, load_encoder
from facelatent.inversion.identity import ArcFaceIdentity, DlibIdentity
from facelatent.inversion.methods import METHODS, Recipe, check_recipe, default_encoder, invert, invert_with
from facelatent.inversion.optimize import OptimizeSettings, identity_distance, reconstruction_metrics
from facelatent.inversion.paste import PasteMask, PasteSettings, paste, paste_mask, photo_mask, quad_crop
from facelatent.inversion.perceptual import LPIPS, lpips
from facelatent.inversion.tuning import TuneSettings, tune

__all__ = [
    "LPIPS",
    "METHODS",
    "AlignedFace",
    "ArcFaceIdentity",
    "DlibIdentity",
    "Encoder",
    "EncoderBundle",
    "Face",
    "OptimizeSettings",
    "PasteMask",
    "PasteSettings",
    "Recipe",
    "TuneSettings",
    "align_face",
    "aligned_crop",
    "check_recipe",
    "choose_face",
    "crop_quad",
    "default_encoder",
    "find_faces",
    "identity_distance",
    "invert",
    "invert_with",
    "load_encoder",
    "lpips",
    "paste",
    "paste_mask",
    "photo_mask",
    "quad_crop",
    "reconstruction_metrics",
    "tune",
]
