"""Read a public checkpoint: what it is and its generator's tensors, without running its code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facelatent.errors import UnsupportedCheckpoint
from facelatent.stylegan_ops.checkpoints.allowed import Stored
from facelatent.stylegan_ops.checkpoints.containers import Contents, named_errors, read_contents
from facelatent.stylegan_ops.checkpoints.kinds import Found, Kind, Tensors, find_kind
from facelatent.stylegan_ops.checkpoints.layouts import (
    Layout,
    check_shapes,
    config_from_shapes,
    constants,
    listed,
    rows,
)
from facelatent.stylegan_ops.mobile import MobileStyleGAN
from facelatent.stylegan_ops.stylegan2_network import StyleGAN2Config

_STATISTICS = ("w_avg", "w_std", "w_components", "w_scales")
#: What the metadata of a MobileStyleGAN may claim.
_MAX_LEVELS, _MAX_CHANNELS = 12, 1 << 14
#: A filter may differ from [1, 3, 3, 1] by rounding only.
_FILTER_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Checkpoint:
    """A generator read from a file.

    Attributes:
        kind: which of :data:`~facelatent.stylegan_ops.checkpoints.kinds.KINDS`, by name.
        description: the same for people.
        container: ``pickle``, ``torch-zip``, ``torch-stream`` or ``safetensors``.
        layout: whose names ``state`` has: ``nvidia``, ``rosinality`` or ``facelatent``; None for MobileStyleGAN.
        state: the generator's tensors, float32, without filters and w_avg.
        config: the generator's shape; None for MobileStyleGAN.
        w_avg: [w_dim] mean of w, None if the file has none.
        settings: plain values found beside the weights (``class_name``, ``opts``, ``latent_avg_shape`` ...).
        missing: what a complete file would have and this one has not.
    """

    kind: str
    description: str
    container: str
    layout: Layout | None
    state: dict[str, Tensor]
    config: StyleGAN2Config | None
    w_avg: Tensor | None
    settings: dict[str, Any]
    missing: tuple[str, ...]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the generator of a checkpoint of any known kind. No code of the file is run.

    Args:
        path: NVIDIA ``.pkl`` (PyTorch or TensorFlow era), rosinality, pSp, e4e, NADA or DIFA ``.pt``, a bare state dict
            of either layout, or safetensors. The name plays no part.

    Raises:
        UnsafeCheckpoint: reading it would mean running code; the message names what it asks for.
        UnsupportedCheckpoint: not a StyleGAN2 generator, damaged, truncated, or not a checkpoint; the message says
            what was seen.
    """
    contents = read_contents(path)
    with named_errors(str(path)):
        return checkpoint_in(contents, Path(path).stat().st_size)


def checkpoint_in(contents: Contents, size: int) -> Checkpoint:
    """As :func:`read_checkpoint`, from the contents of a file of ``size`` bytes; damage is raised as it comes."""
    kind, found = find_kind(contents)
    if found.layout is None:
        return _read_mobile(kind, found, contents.container, size)
    return _read_stylegan2(kind, found, contents.container, found.layout, size)


def _read_mobile(kind: Kind, found: Found, container: str, budget: int) -> Checkpoint:
    name, channels = found.settings.get("name"), found.settings.get("channels")
    if (
        not isinstance(name, str)
        or not isinstance(channels, list)
        or not 1 < len(channels) < _MAX_LEVELS
        or any(type(count) is not int or not 0 < count < _MAX_CHANNELS for count in channels)
    ):
        raise UnsupportedCheckpoint("it does not say what generator it holds (name, channels)")
    with torch.device("meta"):  # nothing is allocated on the word of the metadata
        expected = {key: value.shape for key, value in MobileStyleGAN(name, tuple(channels)).state_dict().items()}
    tensors = found.tensors
    wrong = sorted(key for key in expected.keys() & tensors.keys() if expected[key] != tensors[key].shape)
    wrong += sorted(expected.keys() ^ tensors.keys())
    if wrong:
        raise UnsupportedCheckpoint(f"tensors missing, unknown or of another shape: {listed(wrong)}")
    state = _loaded(tensors, budget)
    return Checkpoint(kind.name, kind.description, container, None, state, None, None, found.settings, ())


def _read_stylegan2(kind: Kind, found: Found, container: str, layout: Layout, budget: int) -> Checkpoint:
    shapes = {name: tuple(value.shape) for name, value in found.tensors.items()}
    config = config_from_shapes(shapes, layout)
    config = replace(
        config,
        conv_clamp=found.settings.get("conv_clamp"),
        half_blocks=int(found.settings.get("half_blocks") or 0),
    )
    noises = {row.name(layout) for row in rows(config) if row.facelatent.endswith(".noise")}
    # Old forks of rosinality's code did not keep the noise maps; all or none, since some would be damage.
    absent = layout == "rosinality" and not noises & shapes.keys()
    optional = noises if absent else set()
    if layout == "facelatent":
        optional |= set(_STATISTICS)
    check_shapes(shapes, config, layout, frozenset(optional))
    tensors = found.tensors if found.w_avg is None else {**found.tensors, "w_avg": found.w_avg}
    state = _loaded(tensors, budget)
    _check_filters(state, config, layout)
    average = state.pop("w_avg", None)
    settings = dict(found.settings)
    if average is not None:
        settings["latent_avg_shape"] = list(average.shape)
        average = _one_average(average, config)
    missing = [] if average is not None else ["mean w (w_avg / latent_avg): estimated with a fixed seed"]
    missing += ["noise maps: drawn with a fixed seed"] if absent else []
    return Checkpoint(kind.name, kind.description, container, layout, state, config, average, settings, tuple(missing))


def _loaded(tensors: Tensors, budget: int) -> dict[str, Tensor]:
    """Tensors in memory as float32; together they may not be larger than the file they came from."""
    state = {}
    for name, value in tensors.items():
        budget -= value.nbytes
        if budget < 0:
            raise UnsupportedCheckpoint(f"tensor {name[:80]}: the tensors are larger than the file")
        try:
            state[name] = (value.load() if isinstance(value, Stored) else value).float()
        except UnsupportedCheckpoint as error:
            raise UnsupportedCheckpoint(f"tensor {name[:80]}: {error}") from error
    return state


def _check_filters(state: dict[str, Tensor], config: StyleGAN2Config, layout: Layout) -> None:
    """Take the resampling filters out of ``state`` after a look: another filter would give other pictures."""
    for name, expected in constants(config, layout).items():
        found = state.pop(name, expected)
        if not torch.allclose(found, expected, atol=_FILTER_TOLERANCE):
            raise UnsupportedCheckpoint(f"{name} is not StyleGAN2's [1, 3, 3, 1] filter; such generators are not drawn")


def _one_average(average: Tensor, config: StyleGAN2Config) -> Tensor:
    """[w_dim] from what files hold: [w_dim], [1, w_dim], or (pSp, e4e) one row for each W+ layer."""
    if average.ndim not in (1, 2) or average.shape[-1] != config.w_dim or not average.numel():
        raise UnsupportedCheckpoint(f"the mean w has shape {list(average.shape)}, expected [..., {config.w_dim}]")
    # The rows are copies of one another; the mean of equal numbers may round, the first of them does not.
    rows_of_average = average.reshape(-1, config.w_dim)
    return rows_of_average[0] if bool((rows_of_average == rows_of_average[0]).all()) else rows_of_average.mean(0)


def parameter_count(state: Mapping[str, Tensor]) -> int:
    """Trained numbers of a generator's state dict: everything but noise maps, filters and statistics."""
    kept = (v for k, v in state.items() if not k.startswith(("w_", "noises.")) and not k.endswith(_BUFFERS))
    return sum(value.numel() for value in kept)


_BUFFERS = (".noise", ".noise_const", ".resample_filter", ".kernel")
