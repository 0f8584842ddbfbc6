"""Generators, their operators, and reading their weights."""

from facelatent.stylegan_ops.generator import Generator, Noise
from facelatent.stylegan_ops.mobile import MobileStyleGAN, inverse_haar
from facelatent.stylegan_ops.registry import DEFAULT_GENERATOR, load_generator, save_generator

__all__ = [
    "DEFAULT_GENERATOR",
    "Generator",
    "MobileStyleGAN",
    "Noise",
    "inverse_haar",
    "load_generator",
    "save_generator",
]
