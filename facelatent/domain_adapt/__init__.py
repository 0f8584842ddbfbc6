"""Another generator of the same people: adaptation to an artwork, styles, what they are kept in, how they are mixed."""

from facelatent.domain_adapt.adapting import adapt
from facelatent.domain_adapt.difa_terms import FAITHFUL, DifaSettings
from facelatent.domain_adapt.reference import Reference, prepare_reference
from facelatent.domain_adapt.settings import DIFA, NADA, VGG, AdaptSettings
from facelatent.domain_adapt.style import SUFFIX, Style, mix
from facelatent.domain_adapt.vgg_terms import GRAPHIC, PAINTED, VggSettings, suited

__all__ = [
    "DIFA",
    "FAITHFUL",
    "GRAPHIC",
    "NADA",
    "PAINTED",
    "SUFFIX",
    "VGG",
    "AdaptSettings",
    "DifaSettings",
    "Reference",
    "Style",
    "VggSettings",
    "adapt",
    "mix",
    "prepare_reference",
    "suited",
]
