"""Write checkpoints as the public training codes do, from stand-ins for their modules. Benchmarks use this too."""

from __future__ import annotations

import pickle
import sys
import types
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from goldens.fill import fill
from torch import Tensor, nn

from facelatent.stylegan_ops import StyleGAN2Config
from facelatent.stylegan_ops.checkpoints.layouts import constants, from_facelatent, rows, to_facelatent

State = dict[str, Tensor]

#: Small enough to write and read in milliseconds; each width is another number, so that a mix-up shows.
TINY = StyleGAN2Config((6, 5, 4, 3), z_dim=8, w_dim=8, mapping_layers=2)

_BUFFERS = ("noise_const", "resample_filter", "w_avg")


class EasyDict(dict):
    """What NVIDIA's code keeps settings in: a dict with attributes."""


EasyDict.__module__ = "dnnlib.util"


class Network:
    """Stands for dnnlib's TensorFlow network, which pickles as its ``__getstate__`` says."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


Network.__module__ = "dnnlib.tflib.network"


def _reconstruct_persistent_obj(meta: Any) -> None:
    """Exists so that pickles can name it; the real one executes ``meta.module_src``."""
    raise AssertionError("a reader called the real function")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent(nn.Module):
    """A module that pickles itself as ``torch_utils.persistence`` does: source, class name and state."""

    module_src = "raise AssertionError('module_src was executed')"

    def __init__(self, class_name: str, **attributes: Any) -> None:
        super().__init__()
        self._class_name = class_name
        self.__dict__.update(attributes)

    def __reduce__(self) -> Any:
        state = {key: value for key, value in self.__dict__.items() if key not in ("_class_name", "module_src")}
        source = self.__dict__.get("module_src", self.module_src)
        meta = EasyDict(type="class", version=6, module_src=source, class_name=self._class_name, state=state)
        return _reconstruct_persistent_obj, (meta,), None


@contextmanager
def foreign_modules() -> Iterator[None]:
    """Make the public codes' module names importable, as pickling needs; reading must work without."""
    content = {
        "dnnlib": {},
        "dnnlib.util": {"EasyDict": EasyDict},
        "dnnlib.tflib": {},
        "dnnlib.tflib.network": {"Network": Network},
        "torch_utils": {},
        "torch_utils.persistence": {"_reconstruct_persistent_obj": _reconstruct_persistent_obj},
    }
    for name, attributes in content.items():
        module = types.ModuleType(name)
        module.__dict__.update(attributes)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in content:
            del sys.modules[name]


def foreign_pickle(value: Any, protocol: int = 4) -> bytes:
    """Pickle ``value``, which may hold any of the stand-ins."""
    with foreign_modules():
        return pickle.dumps(value, protocol=protocol)


def nvidia_state(config: StyleGAN2Config = TINY) -> State:
    """Filled weights of ``config`` in NVIDIA's layout, filters and w_avg included."""
    shapes = {row.nvidia: row.shape for row in rows(config)} | {"mapping.w_avg": (config.w_dim,)}
    ones = frozenset(name for name in shapes if name.endswith("affine.bias"))
    state = {name: torch.from_numpy(value) for name, value in fill(shapes, equalized=True, ones=ones).items()}
    return state | constants(config, "nvidia")


def rosinality_state(config: StyleGAN2Config = TINY) -> State:
    """The same generator as :func:`nvidia_state` in rosinality's layout."""
    return from_facelatent(to_facelatent(nvidia_state(config), config, "nvidia"), config, "rosinality")


def average(config: StyleGAN2Config = TINY) -> Tensor:
    """w_avg [w_dim] of :func:`nvidia_state`."""
    return nvidia_state(config)["mapping.w_avg"]


def nvidia_module(state: Mapping[str, Tensor], **synthesis: Any) -> Persistent:
    """The module tree that NVIDIA's ``Generator`` is, of persistent modules, with ``state`` in it."""
    root = Persistent("Generator", _init_args=(), _init_kwargs=EasyDict(z_dim=8, img_channels=3))
    for name, value in state.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, Persistent(part.capitalize()))
            module = module._modules[part]  # type: ignore[assignment]
        if leaf in _BUFFERS:
            module.register_buffer(leaf, value.clone())
        else:
            module.register_parameter(leaf, nn.Parameter(value.clone()))
    if synthesis:
        root._modules["synthesis"].__dict__.update(synthesis)  # type: ignore[union-attr]
    return root


def nvidia_pickle(
    state: Mapping[str, Tensor], protocol: int = 4, copies: int = 1, discriminator: int = 4, **synthesis: Any
) -> bytes:
    """A training snapshot: ``copies`` of G, a stand-in for D of so many numbers, G_ema, and settings."""
    extras = {f"G{index or ''}": nvidia_module(state) for index in range(copies)}
    snapshot = {
        **extras,
        "D": nvidia_module({"b4.out.weight": torch.zeros(discriminator)}),
        "G_ema": nvidia_module(state, **synthesis),
        "training_set_kwargs": EasyDict(path="ffhq.zip", use_labels=False, resolution=np.int64(32)),
        "augment_pipe": None,
    }
    return foreign_pickle(snapshot, protocol)


def tensorflow_pickle(state: Mapping[str, Tensor], protocol: int = 4, version: int = 4) -> bytes:
    """(G, D, Gs) as StyleGAN2's TensorFlow code pickled them, with ``state`` (NVIDIA's PyTorch layout) in Gs."""
    synthesis: list[tuple[str, Any]] = []
    mapping: list[tuple[str, Any]] = []
    for name, value in state.items():
        array = value.numpy()
        part, *path = name.split(".")
        if name.endswith("resample_filter") or name == "mapping.w_avg":
            continue
        if part == "mapping":
            layer = path[0].replace("fc", "Dense")
            mapping.append((f"{layer}/{path[1]}", array.T.copy() if path[1] == "weight" else array))
        elif path[1] == "const":
            synthesis.append(("4x4/Const/const", array[None]))
        else:
            synthesis.append(_tensorflow_variable(path, array))
    common = {"version": version, "static_kwargs": EasyDict(fmap_base=16384), "build_module_src": "raise SystemExit"}
    part_networks = {
        "synthesis": Network(name="G_synthesis", variables=synthesis, components={}, **common),
        "mapping": Network(name="G_mapping", variables=mapping, components={}, **common),
    }
    top = [("dlatent_avg", state["mapping.w_avg"].numpy()), ("lod", np.float32(0))]
    gs = Network(name="Gs", variables=top, components=part_networks, **common)
    empty = Network(name="D", variables=[], components={}, **common)
    return foreign_pickle((empty, empty, gs), protocol)


def _tensorflow_variable(path: list[str], array: np.ndarray) -> tuple[str, np.ndarray]:
    """One tensor of a synthesis layer, named and arranged as in TensorFlow."""
    side, layer, kind = int(path[0][1:]), path[1], ".".join(path[2:])
    if kind == "noise_const":
        index = 2 * int(np.log2(side)) - (5 if layer == "conv0" else 4) if side > 4 else 0
        return f"noise{index}", array[None, None]
    names = {"conv0": "Conv0_up", "conv1": "Conv1" if side > 4 else "Conv", "torgb": "ToRGB"}
    prefix = f"{side}x{side}/{names[layer]}"
    if kind == "weight":
        flipped = array[:, :, ::-1, ::-1] if layer == "conv0" else array
        return f"{prefix}/weight", flipped.transpose(2, 3, 1, 0).copy()
    if kind == "affine.weight":
        return f"{prefix}/mod_weight", array.T.copy()
    if kind == "affine.bias":
        return f"{prefix}/mod_bias", array - 1
    return f"{prefix}/{kind}", array


def encoder_bundle(config: StyleGAN2Config = TINY, namespace: bool = False) -> dict[str, Any]:
    """What pSp and e4e save: encoder and decoder tensors, options, and the mean w once for each layer."""
    layers = 2 * len(config.channels)
    options = {"encoder_type": "GradualStyleEncoder", "output_size": config.resolution, "exp_dir": Path("runs/1")}
    tensors = {f"decoder.{name}": value for name, value in rosinality_state(config).items()}
    tensors["encoder.input_layer.0.weight"] = torch.zeros(4, 3, 3, 3)
    return {
        "state_dict": OrderedDict(tensors),
        "opts": Namespace(**options) if namespace else options,
        "latent_avg": average(config).repeat(layers, 1),
    }
