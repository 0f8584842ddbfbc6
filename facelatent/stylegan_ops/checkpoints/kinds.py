"""The kinds of checkpoint that are known, in the order in which they are looked for.

A kind is recognised by the keys that a file's contents have, never by the file's name. A finder returns None for what
is not its kind, and raises for what is but cannot be used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from facelatent.errors import UnsupportedCheckpoint
from facelatent.stylegan_ops.checkpoints.allowed import TF_NETWORK, Stored
from facelatent.stylegan_ops.checkpoints.containers import Contents
from facelatent.stylegan_ops.checkpoints.layouts import Layout, layout_of, listed, prefix_of
from facelatent.stylegan_ops.checkpoints.tensorflow import read_network
from facelatent.stylegan_ops.checkpoints.unpickle import Record

Tensors = dict[str, "Stored | Tensor"]

#: Deeper, or more, modules than any generator has; ones that contain themselves would never end.
_MAX_DEPTH, _MAX_MODULES = 16, 20_000


@dataclass(frozen=True)
class Found:
    """A generator inside a file, its tensors not loaded yet.

    Attributes:
        layout: whose names ``tensors`` has; None for a MobileStyleGAN of ours.
        tensors: the generator's state dict.
        w_avg: [w_dim] or [num_ws, w_dim], None if the file has none.
        settings: plain values that shapes do not tell: ``conv_clamp``, ``half_blocks``, ``class_name``, ``opts`` ...
    """

    layout: Layout | None
    tensors: Tensors
    w_avg: Stored | Tensor | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """One kind of checkpoint: a name for code, a line for people, and how to find it."""

    name: str
    description: str
    find: Callable[[Contents], Found | None]


def _tensors(value: Any) -> Tensors:
    """The tensors with text keys of a dict; nothing if it is not one."""
    if not isinstance(value, Mapping):
        return {}
    return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, (Stored, Tensor))}


def _part(contents: Contents, *keys: str) -> Any:
    """The first of ``keys`` that the file's dict has; None if it is not a dict or has none of them."""
    if not isinstance(contents.value, Mapping):
        return None
    return next((contents.value[key] for key in keys if contents.value.get(key) is not None), None)


def _average(value: Any) -> Stored | Tensor | None:
    return value if isinstance(value, (Stored, Tensor)) else None


def _metadata(contents: Contents) -> dict[str, Any]:
    """The metadata of a safetensors file, whose values are JSON in our files; empty if another program wrote it."""
    try:
        return {key: json.loads(value) for key, value in contents.metadata.items()}
    except ValueError:
        return {}


def _ours(contents: Contents) -> Found | None:
    settings = _metadata(contents)
    if settings.get("kind") == "mobile":
        return Found(None, _tensors(contents.value), settings=settings)
    if settings.get("kind") == "stylegan2":
        return Found("facelatent", _tensors(contents.value), contents.value.get("w_avg"), settings)
    return None


def _module_tensors(module: Record) -> Tensors:
    """The parameters and persistent buffers of a stored module tree, named as its state_dict() would."""
    tensors: Tensors = {}
    pending: list[tuple[str, Any]] = [("", module)]
    visits = 0
    while pending:
        prefix, module = pending.pop()
        visits += 1
        if prefix.count(".") > _MAX_DEPTH or visits + len(pending) > _MAX_MODULES:
            raise UnsupportedCheckpoint("its modules are nested without end")
        if not isinstance(module, Record) or not isinstance(module.state, Mapping):
            raise UnsupportedCheckpoint(f"{prefix[:80] or 'the generator'!r} is not a module")
        skipped = module.state.get("_non_persistent_buffers_set") or ()
        tensors |= {prefix + name: value for name, value in _tensors(module.state.get("_parameters")).items()}
        buffers = _tensors(module.state.get("_buffers"))
        tensors |= {prefix + name: value for name, value in buffers.items() if name not in skipped}
        children = (module.state.get("_modules") or {}).items()
        pending += [(f"{prefix}{name}.", child) for name, child in children if child is not None]
    return tensors


def _attribute(module: Any, name: str) -> list[Any]:
    """Values of an attribute of a stored module and its direct children's children (blocks, layers), in order."""
    found: list[Any] = []
    level = [module]
    for _ in range(3):
        level = [m for m in level if isinstance(m, Record) and isinstance(m.state, Mapping)]
        found += [m.state[name] for m in level if name in m.state]
        level = [child for m in level for child in (m.state.get("_modules") or {}).values()][:200]
    return found


def _training_settings(generator: Record) -> dict[str, Any]:
    """What the pickled objects say about clamping and half precision: their attributes, or else their arguments."""
    synthesis = (generator.state.get("_modules") or {}).get("synthesis")
    arguments = generator.state.get("_init_kwargs") or {}
    arguments = {**arguments, **(arguments.get("synthesis_kwargs") or {})}
    clamps = _attribute(synthesis, "conv_clamp") or [arguments.get("conv_clamp")]
    halves = [bool(value) for value in _attribute(synthesis, "use_fp16")]
    clamp, half = clamps[0], sum(halves) if halves else arguments.get("num_fp16_res") or 0
    return {
        "class_name": generator.class_name,
        "conv_clamp": float(clamp) if isinstance(clamp, (int, float)) else None,
        "half_blocks": int(half),
    }


def _stylegan3(contents: Contents) -> Found | None:
    generator = _nvidia_generator(contents)
    tensors = _module_tensors(generator) if generator else {}
    keys = {**tensors, **_tensors(contents.value), **_tensors(_part(contents, "G_ema"))}
    if any(key.startswith(("synthesis.input.", "synthesis.L0_")) for key in keys):
        raise UnsupportedCheckpoint(
            "it is a StyleGAN3 generator (alias-free, synthesis.L0_...), which facelatent does not draw; use a "
            "StyleGAN2 checkpoint"
        )
    return None


def _nvidia_generator(contents: Contents) -> Record | None:
    """The generator object of StyleGAN2-ADA's pickles: under G_ema, or alone as PTI saves it."""
    value = contents.value if isinstance(contents.value, Record) else _part(contents, "G_ema")
    return value if isinstance(value, Record) and value.class_name != TF_NETWORK else None


def _nvidia_pickle(contents: Contents) -> Found | None:
    generator = _nvidia_generator(contents)
    if generator is None:
        if isinstance(_part(contents, "G"), Record):
            raise UnsupportedCheckpoint("an NVIDIA pickle without G_ema, the generator that draws")
        return None
    tensors = _module_tensors(generator)
    if layout_of(tensors) != "nvidia":
        raise UnsupportedCheckpoint(
            f"an NVIDIA pickle of a {generator.class_name[:40]!r} that is not a StyleGAN2 generator "
            f"(tensors {listed(sorted(tensors))})"
        )
    average = tensors.pop("mapping.w_avg", None)
    return Found("nvidia", tensors, average, _training_settings(generator))


def _tensorflow_pickle(contents: Contents) -> Found | None:
    value = contents.value
    networks = value if isinstance(value, (tuple, list)) else [_part(contents, "Gs", "G_ema")]
    if not networks or not isinstance(networks[-1], Record) or networks[-1].class_name != TF_NETWORK:
        return None
    tensors, average, settings = read_network(networks[-1])
    return Found("nvidia", dict(tensors), average, settings)


def _encoder_bundle(contents: Contents) -> Found | None:
    tensors = _tensors(_part(contents, "state_dict"))
    decoder = {key.removeprefix("decoder."): v for key, v in tensors.items() if key.startswith("decoder.")}
    if layout_of(decoder) != "rosinality":
        return None
    opts = _part(contents, "opts")
    opts = opts.state if isinstance(opts, Record) else opts
    settings = {"opts": _plain_options(opts), "encoder_tensors": sum(key.startswith("encoder.") for key in tensors)}
    return Found("rosinality", decoder, _average(_part(contents, "latent_avg")), settings)


def _plain_options(opts: Any) -> dict[str, Any]:
    """The options of a training run that are text or numbers."""
    if not isinstance(opts, Mapping):
        return {}
    return {str(key): value for key, value in opts.items() if isinstance(value, (str, int, float, bool, type(None)))}


def _rosinality(contents: Contents) -> Found | None:
    tensors = _tensors(_part(contents, "g_ema"))
    return Found("rosinality", tensors, _average(_part(contents, "latent_avg"))) if layout_of(tensors) else None


def _adapted(contents: Contents) -> Found | None:
    found = _rosinality(contents)
    trained = found is not None and not {"latent_avg", "d", "g"} & contents.value.keys()
    return found if trained and "g_optim" in contents.value else None


def _state_dict(contents: Contents) -> Tensors:
    """The state dict that a file is, or has under one of the usual names."""
    bare = _tensors(contents.value)
    return bare if layout_of(bare) else _tensors(_part(contents, "G_ema", "g_ema", "state_dict"))


def _bare(layout: Layout) -> Callable[[Contents], Found | None]:
    def find(contents: Contents) -> Found | None:
        tensors = dict(_state_dict(contents))
        if layout_of(tensors) != layout:
            return None
        # A flat safetensors file has no other place for rosinality's average.
        average = tensors.pop("mapping.w_avg" if layout == "nvidia" else "latent_avg", None)
        return Found(layout, tensors, average)

    return find


#: The first that matches counts.
KINDS: tuple[Kind, ...] = (
    Kind("facelatent", "facelatent generator (safetensors)", _ours),
    Kind("stylegan3", "StyleGAN3 (recognised, not supported)", _stylegan3),
    Kind("nvidia-pickle", "NVIDIA StyleGAN2-ADA pickle (PyTorch)", _nvidia_pickle),
    Kind("nvidia-tensorflow", "NVIDIA StyleGAN2 pickle (TensorFlow era)", _tensorflow_pickle),
    Kind("encoder-bundle", "pSp / e4e bundle: encoder and generator", _encoder_bundle),
    Kind("adapted", "StyleGAN-NADA / DIFA generator", _adapted),
    Kind("rosinality", "rosinality stylegan2-pytorch checkpoint", _rosinality),
    Kind("nvidia-state", "state dict in NVIDIA's layout", _bare("nvidia")),
    Kind("rosinality-state", "state dict in rosinality's layout", _bare("rosinality")),
)


def find_kind(contents: Contents) -> tuple[Kind, Found]:
    """The kind of a file's contents and the generator in it.

    Raises:
        UnsupportedCheckpoint: none of :data:`KINDS`, or one that cannot be used.
    """
    for kind in KINDS:
        found = kind.find(contents)
        if found is not None:
            return kind, found
    raise UnsupportedCheckpoint(_what_was_seen(contents))


def _what_was_seen(contents: Contents) -> str:
    value = contents.value
    if isinstance(value, Record):
        return f"no StyleGAN2 generator in it; seen: an object of class {value.class_name[:60]!r}"
    if not isinstance(value, Mapping):
        return f"no StyleGAN2 generator in it; seen: a {type(value).__name__}"
    for part in (value, *(inner for inner in value.values() if isinstance(inner, Mapping))):
        prefix = prefix_of(key for key in part if isinstance(key, str))
        if prefix:
            return f"its generator's tensors carry the unknown prefix {prefix[:80]!r}; remove it from the names"
    keys = listed([str(key) for key in value if isinstance(key, str)])
    if contents.container == "safetensors":
        kind = repr(_metadata(contents).get("kind"))[:40]
        return f"not a generator file of facelatent (kind {kind}), nor another StyleGAN2; seen: {keys}"
    return f"no StyleGAN2 generator in it; seen: {keys}"
