"""Generators, their operators, and reading their weights."""

from facelatent.stylegan_ops.bias_act import bias_act
from facelatent.stylegan_ops.generator import Generator, Noise, Styles, same_w_space
from facelatent.stylegan_ops.mobile import MobileStyleGAN
from facelatent.stylegan_ops.mobile_network import inverse_haar
from facelatent.stylegan_ops.registry import (
    DEFAULT_GENERATOR,
    import_generator,
    imported_generators,
    load_generator,
    save_generator,
)
from facelatent.stylegan_ops.stylegan2 import StyleGAN2
from facelatent.stylegan_ops.stylegan2_network import StyleGAN2Config, channels_for
from facelatent.stylegan_ops.upfirdn2d import setup_filter, upfirdn2d, upsample2d

__all__ = [
    "DEFAULT_GENERATOR",
    "Generator",
    "MobileStyleGAN",
    "Noise",
    "StyleGAN2",
    "StyleGAN2Config",
    "Styles",
    "bias_act",
    "channels_for",
    "import_generator",
    "imported_generators",
    "inverse_haar",
    "load_generator",
    "same_w_space",
    "save_generator",
    "setup_filter",
    "upfirdn2d",
    "upsample2d",
]
