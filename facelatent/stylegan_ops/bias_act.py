"""Add a bias, apply an activation, scale and clamp: the step after every convolution of StyleGAN2.

Compiled kernels run where there are any (see :mod:`facelatent.stylegan_ops.backend`), else plain PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.cuda_kernels import Kind
from facelatent.cuda_kernels.arguments import BiasActArguments
from facelatent.stylegan_ops.backend import Backend, chosen
from facelatent.stylegan_ops.launch import DTYPES, differentiated, launch, refuse_forward_mode, watched

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

_Function = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Activation:
    """A function of x and alpha and its derivatives by x, with the alpha and gain that hold unless others are given."""

    function: _Function
    slope: _Function
    curvature: _Function | None = None  # None: zero
    alpha: float = 0.0
    gain: float = 1.0


#: In the order of the kernels' codes.
ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda x, _: x, lambda x, _: torch.ones_like(x)),
    "relu": Activation(lambda x, _: F.relu(x), lambda x, _: (~(x <= 0)).to(x.dtype), gain=math.sqrt(2)),
    "lrelu": Activation(
        lambda x, alpha: F.leaky_relu(x, alpha),
        lambda x, alpha: torch.where(x > 0, 1.0, alpha).to(x.dtype),
        alpha=0.2,
        gain=math.sqrt(2),
    ),
    "tanh": Activation(
        lambda x, _: torch.tanh(x),
        lambda x, _: 1 - torch.tanh(x).square(),
        lambda x, _: -2 * torch.tanh(x) * (1 - torch.tanh(x).square()),
    ),
    "sigmoid": Activation(
        lambda x, _: torch.sigmoid(x),
        lambda x, _: _logistic_slope(x),
        lambda x, _: -_logistic_slope(x) * torch.tanh(x / 2),
    ),
    "elu": Activation(
        lambda x, _: F.elu(x),
        lambda x, _: torch.where(x <= 0, x.clamp(max=0).exp(), 1.0),
        lambda x, _: torch.where(x < 0, x.clamp(max=0).exp(), 0.0),
    ),
    "selu": Activation(
        lambda x, _: F.selu(x),
        lambda x, _: _SELU_SCALE * torch.where(x <= 0, _SELU_ALPHA * x.clamp(max=0).exp(), 1.0),
        lambda x, _: _SELU_SCALE * torch.where(x < 0, _SELU_ALPHA * x.clamp(max=0).exp(), 0.0),
    ),
    "softplus": Activation(
        lambda x, _: F.softplus(x),
        lambda x, _: torch.sigmoid(x),
        lambda x, _: _logistic_slope(x),
    ),
    "swish": Activation(
        lambda x, _: F.silu(x),
        lambda x, _: torch.sigmoid(x) + x * _logistic_slope(x),
        lambda x, _: _logistic_slope(x) * (2 - x * torch.tanh(x / 2)),
        gain=math.sqrt(2),
    ),
}
_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}


def _logistic_slope(x: Tensor) -> Tensor:
    return torch.sigmoid(x) * torch.sigmoid(-x)


class _Rule(NamedTuple):
    """All but the tensors."""

    dim: int
    act: str
    alpha: float
    gain: float
    clamp: float  # negative: off


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """``clamp(gain * act(x + b))``, differentiable as often as the activation is.

    Compiled kernels work in float32 on float16 and bfloat16. A NaN stays one, and the gradient at the limits of the
    clamp is that of :func:`torch.clamp`.

    Args:
        x: any shape.
        b: [x.shape[dim]], added along ``dim``.
        dim: the dimension of ``x`` that ``b`` runs along.
        act: a key of :data:`ACTIVATIONS`.
        alpha: slope of ``lrelu`` below zero (0.2); the other activations have none.
        gain: factor after the activation; sqrt(2) for relu, lrelu and swish, else 1.
        clamp: limit the result to ``[-clamp, clamp]``.
        backend: which implementation; see :func:`~facelatent.stylegan_ops.backend.chosen`.

    Raises:
        ValueError: unknown activation, negative clamp, or a bias that does not fit.
        KernelsUnavailable: ``backend`` names kernels that cannot be had.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"unknown activation {act!r}; known: {', '.join(ACTIVATIONS)}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"clamp must not be negative, got {clamp}")
    if b is not None:
        if b.ndim != 1 or not -x.ndim <= dim < x.ndim or len(b) != x.shape[dim]:
            raise ValueError(f"bias {tuple(b.shape)} does not fit dimension {dim} of {tuple(x.shape)}")
        if b.device != x.device:
            raise ValueError(f"the bias is on {b.device}, the tensor on {x.device}")
        b = b if b.dtype == x.dtype else b.to(x.dtype)
        dim %= x.ndim
    known = ACTIVATIONS[act]
    alpha, gain = known.alpha if alpha is None else alpha, known.gain if gain is None else gain
    rule = _Rule(dim, act, float(alpha), float(gain), -1.0 if clamp is None else float(clamp))
    if b is None and act == "linear" and gain == 1 and clamp is None:
        return x
    if backend == "reference":
        return _reference(x, b, rule)
    return _apply(0, (x,), b, rule, backend)


# The plain PyTorch twins


def _reference(x: Tensor, b: Tensor | None, rule: _Rule) -> Tensor:
    x = _biased(x, b, rule)
    x = ACTIVATIONS[rule.act].function(x, rule.alpha)
    if rule.gain != 1:
        x = x * rule.gain
    return x if rule.clamp < 0 else x.clamp(-rule.clamp, rule.clamp)


def _reference_gradient(order: int, tensors: tuple[Tensor, ...], b: Tensor | None, rule: _Rule) -> Tensor:
    """The product of the upstream gradients ``tensors[1:]`` and the ``order``-th derivative at ``tensors[0]``."""
    x, *upstream = tensors
    u, activation = _biased(x, b, rule), ACTIVATIONS[rule.act]
    derivative = activation.slope if order == 1 else activation.curvature
    if derivative is None:
        return torch.zeros_like(x)
    result = derivative(u, rule.alpha) * rule.gain
    for g in upstream:
        result = result * g
    if rule.clamp >= 0:
        v = activation.function(u.detach(), rule.alpha) * rule.gain
        result = torch.where((v >= -rule.clamp) & (v <= rule.clamp), result, 0.0)
    return result


def _biased(x: Tensor, b: Tensor | None, rule: _Rule) -> Tensor:
    if b is None:
        return x
    shape = [1] * x.ndim
    shape[rule.dim] = -1
    return x + b.reshape(shape)


# The compiled kernels


def _compiled(kind: Kind, order: int, tensors: tuple[Tensor, ...], b: Tensor | None, rule: _Rule) -> Tensor:
    y = torch.empty_like(tensors[0], requires_grad=False)
    if y.numel() == 0:
        return y
    tensors = tuple(_laid_out(t, y) for t in tensors)
    b = None if b is None else b.contiguous()
    size = 1 if b is None else len(b)
    call = BiasActArguments(
        dtype=DTYPES[y.dtype],
        order=order,
        activation=_CODES[rule.act],
        count=y.numel(),
        bias_size=size,
        bias_step=y.stride(rule.dim) if size > 1 else y.numel(),
        alpha=rule.alpha,
        gain=rule.gain,
        clamp=rule.clamp,
        b=None if b is None else b.data_ptr(),
        y=y.data_ptr(),
    )
    for name, tensor in zip("xgh", tensors, strict=False):
        setattr(call, name, tensor.data_ptr())
    launch(kind, "bias_act", call, y.device)
    return y


def _laid_out(x: Tensor, like: Tensor) -> Tensor:
    """``x`` with the strides of ``like``, which are dense."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


# Choice of the implementation, and differentiation


def _apply(order: int, tensors: tuple[Tensor, ...], b: Tensor | None, rule: _Rule, backend: Backend | None) -> Tensor:
    """``tensors``: x, then from order 1 the upstream gradient g, then in order 2 that of the first gradient, h."""
    if watched(*tensors, b):
        return _OPERATORS[order](*tensors, b, *rule, backend or "")  # type: ignore[no-any-return]
    kind = chosen(backend, tensors[0].device)
    if kind == "reference" or tensors[0].dtype not in DTYPES:
        return _reference(tensors[0], b, rule) if order == 0 else _reference_gradient(order, tensors, b, rule)
    refuse_forward_mode(*tensors, b)
    if differentiated(*tensors, b):
        function = _DIFFERENTIABLE[order]
        return function.apply(*tensors, b, *rule, backend)  # type: ignore[no-any-return, no-untyped-call]
    return _compiled(kind, order, tensors, b, rule)


def _parts(order: int, arguments: tuple[Any, ...]) -> tuple[tuple[Tensor, ...], Tensor | None, _Rule, Backend | None]:
    *tensors, b = arguments[: order + 2]
    return tuple(tensors), b, _Rule(*arguments[order + 2 : -1]), arguments[-1] or None


def _along(gx: Tensor, dim: int) -> Tensor:
    """The gradient of the bias."""
    return gx.sum([d for d in range(gx.ndim) if d != dim])


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    b, x = ctx.saved_tensors
    gx = _apply(1, (x, g), b, ctx.rule, ctx.backend)
    return gx, _along(gx, ctx.rule.dim) if ctx.needs_input_grad[1] else None, *(None,) * 6


def _backward2(ctx: Any, h: Tensor) -> tuple[Tensor | None, ...]:
    b, x, g = ctx.saved_tensors
    gg = _apply(1, (x, h), b, ctx.rule, ctx.backend) if ctx.needs_input_grad[1] else None
    if ACTIVATIONS[ctx.rule.act].curvature is None or not (ctx.needs_input_grad[0] or ctx.needs_input_grad[2]):
        return None, gg, *(None,) * 7
    gx = _apply(2, (x, g, h), b, ctx.rule, ctx.backend)
    return gx, gg, _along(gx, ctx.rule.dim) if ctx.needs_input_grad[2] else None, *(None,) * 6


def _backward3(ctx: Any, k: Tensor) -> tuple[Tensor | None, ...]:
    """By autograd through the plain PyTorch twin: nothing here needs third derivatives to be fast, only right."""
    b, *tensors = ctx.saved_tensors
    with torch.enable_grad():
        # Views, so that autograd stops here and not where x, g and h came from.
        tensors = [t.view_as(t) for t in tensors]
        b = None if b is None else b.view_as(b)
        second = _reference_gradient(2, tuple(tensors), b, ctx.rule)
    wanted = [t for t, needed in zip((*tensors, b), ctx.needs_input_grad, strict=False) if needed]
    found = iter(torch.autograd.grad(second, wanted, k, create_graph=torch.is_grad_enabled(), allow_unused=True))
    return *(next(found) if needed else None for needed in ctx.needs_input_grad[:4]), *(None,) * 6


# The registered operators, for torch.compile, fake tensors and modes

_NAMES = ("bias_act", "bias_act_grad", "bias_act_grad2")
_RULE = "Tensor? b, int dim, str act, float alpha, float gain, float clamp, str backend) -> Tensor"


def _register(order: int) -> type[torch.autograd.Function]:
    """The operator that takes x and ``order`` upstream gradients.

    Returns:
        The same for plain eager code, at half the cost of a call.
    """
    name = f"facelatent::{_NAMES[order]}"
    torch.library.define(name, f"(Tensor x, {('', 'Tensor g, ', 'Tensor g, Tensor h, ')[order]}{_RULE}")

    def operator(*arguments: Any) -> Tensor:
        tensors, b, rule, backend = _parts(order, arguments)
        x = tensors[0]
        kind = chosen(backend, x.device)
        if kind == "reference" or x.dtype not in DTYPES:
            y = _reference(x, b, rule) if order == 0 else _reference_gradient(order, tensors, b, rule)
            return _laid_out(y, torch.empty_like(x))
        return _compiled(kind, order, tensors, b, rule)

    def fake(*arguments: Any) -> Tensor:
        return torch.empty_like(arguments[0])

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        tensors, b, ctx.rule, ctx.backend = _parts(order, inputs)
        ctx.save_for_backward(b, *tensors)

    backward = (_backward, _backward2, _backward3)[order]
    torch.library.impl(name, "CompositeExplicitAutograd", operator)
    torch.library.register_fake(name, fake)
    torch.library.register_autograd(name, backward, setup_context=setup_context)
    methods: dict[str, Any] = {"forward": operator, "setup_context": setup_context, "backward": backward}
    return type(_NAMES[order], (torch.autograd.Function,), {k: staticmethod(v) for k, v in methods.items()})


_DIFFERENTIABLE = [_register(order) for order in range(3)]
_OPERATORS = [getattr(torch.ops.facelatent, name) for name in _NAMES]
