"""Add a bias, apply an activation, scale and clamp: the step after every convolution of StyleGAN2."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Activation:
    """A function of x and alpha, with the alpha and gain that hold unless others are given."""

    function: Callable[[Tensor, float], Tensor]
    alpha: float = 0.0
    gain: float = 1.0


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda x, _: x),
    "relu": Activation(lambda x, _: F.relu(x), gain=math.sqrt(2)),
    "lrelu": Activation(lambda x, alpha: F.leaky_relu(x, alpha), alpha=0.2, gain=math.sqrt(2)),
    "tanh": Activation(lambda x, _: torch.tanh(x)),
    "sigmoid": Activation(lambda x, _: torch.sigmoid(x)),
    "elu": Activation(lambda x, _: F.elu(x)),
    "selu": Activation(lambda x, _: F.selu(x)),
    "softplus": Activation(lambda x, _: F.softplus(x)),
    "swish": Activation(lambda x, _: F.silu(x), gain=math.sqrt(2)),
}


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """``clamp(gain * act(x + b))``, differentiable as often as the activation is.

    Args:
        x: any shape.
        b: [x.shape[dim]], added along ``dim``.
        dim: the dimension of ``x`` that ``b`` runs along.
        act: a key of :data:`ACTIVATIONS`.
        alpha: slope of ``lrelu`` below zero (0.2); the other activations have none.
        gain: factor after the activation; sqrt(2) for relu, lrelu and swish, else 1.
        clamp: limit the result to ``[-clamp, clamp]``.

    Raises:
        ValueError: unknown activation, negative clamp, or a bias that does not fit.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"unknown activation {act!r}; known: {', '.join(ACTIVATIONS)}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"clamp must not be negative, got {clamp}")
    activation = ACTIVATIONS[act]
    if b is not None:
        if b.ndim != 1 or not -x.ndim <= dim < x.ndim or len(b) != x.shape[dim]:
            raise ValueError(f"bias {tuple(b.shape)} does not fit dimension {dim} of {tuple(x.shape)}")
        shape = [1] * x.ndim
        shape[dim] = -1
        x = x + b.reshape(shape).to(x.dtype)
    x = activation.function(x, activation.alpha if alpha is None else alpha)
    gain = activation.gain if gain is None else gain
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)
