"""Another generator of the same people: styles, what they are kept in, and how they are mixed."""

from facelatent.domain_adapt.style import SUFFIX, Style, mix

__all__ = ["SUFFIX", "Style", "mix"]
