"""StyleGAN2 pickles of the TensorFlow era: their variables in NVIDIA's later PyTorch names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from facelatent.errors import UnsupportedCheckpoint
from facelatent.stylegan_ops.checkpoints.allowed import Array
from facelatent.stylegan_ops.checkpoints.unpickle import Record

#: Networks older than this were stored in another way.
_OLDEST_VERSION = 4
_MAX_DEPTH = 4


def read_network(network: Record) -> tuple[dict[str, Tensor], Tensor | None, dict[str, Any]]:
    """A state dict of NVIDIA's layout, w_avg, and settings, from a stored ``Gs`` network.

    Raises:
        UnsupportedCheckpoint: an older file, one with classes, or not StyleGAN2.
    """
    state = network.state if isinstance(network.state, Mapping) else {}
    version = state.get("version")
    version = version if type(version) is int else 0
    if version < _OLDEST_VERSION:
        raise UnsupportedCheckpoint(f"a TensorFlow network of version {version}; {_OLDEST_VERSION} or newer is read")
    variables = dict(_variables(network))
    if any(name.startswith("mapping/LabelConcat") for name in variables):
        raise UnsupportedCheckpoint("a TensorFlow generator with classes; only unconditional ones are converted")
    average = variables.pop("dlatent_avg", None)
    # Training state that the picture does not depend on.
    variables = {name: value for name, value in variables.items() if name not in ("lod", "synthesis/lod")}
    arguments = state.get("static_kwargs")
    settings = {"static_kwargs": _plain(arguments if isinstance(arguments, Mapping) else {})}
    return dict(_translated(name, value) for name, value in variables.items()), average, settings


def _plain(arguments: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in arguments.items() if isinstance(value, (str, int, float, bool))}


def _variables(network: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Every variable of a network and of its components, as ``synthesis/4x4/Conv/weight``."""
    if depth > _MAX_DEPTH or not isinstance(network, Record) or not isinstance(network.state, Mapping):
        raise UnsupportedCheckpoint("a TensorFlow network whose components are not networks")
    for name, value in network.state.get("variables") or ():
        if isinstance(value, Array) and value.stored is not None:
            yield prefix + name, value.stored.load()
        elif isinstance(value, (int, float)):
            yield prefix + name, Tensor([value]).reshape(())
    for name, component in (network.state.get("components") or {}).items():
        yield from _variables(component, f"{prefix}{name}/", depth + 1)


def _translated(name: str, value: Tensor) -> tuple[str, Tensor]:
    """One variable in NVIDIA's PyTorch layout.

    Dense matrices are transposed, convolutions go from [h, w, in, out] to [out, in, h, w], those of ``Conv0_up`` are
    flipped as well, and modulation biases lack the 1 that PyTorch's contain.
    """
    if match := re.fullmatch(r"mapping/Dense(\d+)/(weight|bias)", name):
        return f"mapping.fc{match[1]}.{match[2]}", value.T.contiguous() if match[2] == "weight" else value
    if name == "synthesis/4x4/Const/const":
        return "synthesis.b4.const", value.squeeze(0)
    if match := re.fullmatch(r"synthesis/noise(\d+)", name):
        index = int(match[1])
        site = "b4.conv1" if index == 0 else f"b{1 << min((index + 5) // 2, 30)}.conv{(index + 1) % 2}"
        return f"synthesis.{site}.noise_const", value.reshape(value.shape[-2:])
    if match := re.fullmatch(r"synthesis/(\d+)x\1/(Conv0_up|Conv1|Conv|ToRGB)/(\w+)", name):
        layer = {"Conv0_up": "conv0", "Conv1": "conv1", "Conv": "conv1", "ToRGB": "torgb"}[match[2]]
        return _translated_layer(f"synthesis.b{match[1]}.{layer}", match[3], value)
    raise UnsupportedCheckpoint(f"variable {name[:80]!r} is not one of StyleGAN2's")


def _translated_layer(site: str, kind: str, value: Tensor) -> tuple[str, Tensor]:
    if kind == "weight":
        weight = value.permute(3, 2, 0, 1)
        return f"{site}.weight", (weight.flip(2, 3) if site.endswith("conv0") else weight).contiguous()
    if kind == "mod_weight":
        return f"{site}.affine.weight", value.T.contiguous()
    if kind == "mod_bias":
        return f"{site}.affine.bias", value + 1
    if kind == "noise_strength":
        return f"{site}.noise_strength", value.reshape(())
    return f"{site}.{kind}", value
