"""Another generator of the same people: adaptation to an artwork, styles, what they are kept in, how they are mixed."""

from facelatent.domain_adapt.adapting import adapt
from facelatent.domain_adapt.clip_terms import FAITHFUL, ClipSettings
from facelatent.domain_adapt.reference import Reference, prepare_reference
from facelatent.domain_adapt.settings import CLIP, VGG, AdaptSettings
from facelatent.domain_adapt.style import SUFFIX, Style, mix
from facelatent.domain_adapt.vgg_terms import VggWeights

__all__ = [
    "CLIP",
    "FAITHFUL",
    "SUFFIX",
    "VGG",
    "AdaptSettings",
    "ClipSettings",
    "Reference",
    "Style",
    "VggWeights",
    "adapt",
    "mix",
    "prepare_reference",
]
