"""What guides an adaptation: image encoders behind one small interface."""

from facelatent.domain_adapt.guidance.clip import ClipGuidance
from facelatent.domain_adapt.guidance.interface import Described, Guidance
from facelatent.domain_adapt.guidance.vgg import VggGuidance

__all__ = ["ClipGuidance", "Described", "Guidance", "VggGuidance"]
