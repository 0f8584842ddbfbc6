"""How one StyleGAN2 is called in each layout, and its shape read off a state dict.

The layouts differ in names and in dimensions of size one, never in values, so converting is reshaping.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from facelatent.errors import UnsupportedCheckpoint
from facelatent.stylegan_ops.epilogue import TAPS
from facelatent.stylegan_ops.stylegan2 import StyleGAN2Config
from facelatent.stylegan_ops.upfirdn2d import setup_filter

#: ``nvidia``: stylegan2-ada-pytorch; ``rosinality``: stylegan2-pytorch and what grew from it (pSp, e4e, NADA, DIFA);
#: ``facelatent``: our files.
Layout = Literal["nvidia", "rosinality", "facelatent"]
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

#: Files beyond this resolution are refused: no public generator is larger, and a few bytes could claim any size.
MAX_RESOLUTION = 4096

_CONST: dict[Layout, str] = {
    "nvidia": "synthesis.b4.const",
    "rosinality": "input.input",
    "facelatent": "synthesis_network.const",
}
_NOT_LISTED = 5


@dataclass(frozen=True)
class Row:
    """One tensor: its name in our layout and NVIDIA's, the shape it has in both, and rosinality's name and shape."""

    facelatent: str
    nvidia: str
    shape: Shape
    rosinality: str
    rosinality_shape: Shape

    def name(self, layout: Layout) -> str:
        """The tensor's name in ``layout``."""
        return {"nvidia": self.nvidia, "rosinality": self.rosinality, "facelatent": self.facelatent}[layout]

    def shape_in(self, layout: Layout) -> Shape:
        """The tensor's shape in ``layout``."""
        return self.rosinality_shape if layout == "rosinality" else self.shape


def layout_of(keys: Iterable[str]) -> Layout | None:
    """The layout whose names these are, or None; prefixes are not looked through."""
    names = set(keys)
    return next((layout for layout, key in _CONST.items() if key in names), None)


def prefix_of(keys: Iterable[str]) -> str | None:
    """What stands before the names of a known layout, for error messages: ``module.`` of ``module.input.input``."""
    return next((key[: -len(c)] for key in keys for c in _CONST.values() if key.endswith("." + c)), None)


def rows(config: StyleGAN2Config) -> Iterator[Row]:
    """Every tensor that all layouts have; w_avg and constants (filters) are not among them."""
    w_dim = config.w_dim
    if config.label_dim:
        yield Row("mapping_network.embed.weight", "mapping.embed.weight", (w_dim, config.label_dim), "", ())
        yield Row("mapping_network.embed.bias", "mapping.embed.bias", (w_dim,), "", ())
    for index in range(config.mapping_layers):
        inputs = w_dim if index else config.z_dim + (w_dim if config.label_dim else 0)
        for kind, shape in (("weight", (w_dim, inputs)), ("bias", (w_dim,))):
            ours, theirs = f"mapping_network.layers.{index}.{kind}", f"mapping.fc{index}.{kind}"
            yield Row(ours, theirs, shape, f"style.{index + 1}.{kind}", shape)
    const = (config.channels[0], 4, 4)
    yield Row("synthesis_network.const", "synthesis.b4.const", const, "input.input", (1, *const))
    for index, (side, outputs) in enumerate(zip(config.sides, config.channels, strict=True)):
        ours, theirs = f"synthesis_network.blocks.{index}", f"synthesis.b{side}"
        first, second = f"convs.{2 * index - 2}", f"convs.{2 * index - 1}" if index else "conv1"
        if index:
            inputs = config.channels[index - 1]
            yield from _conv_rows(
                f"{ours}.conv0", f"{theirs}.conv0", first, 2 * index - 1, inputs, outputs, side, w_dim
            )
        yield from _conv_rows(f"{ours}.conv1", f"{theirs}.conv1", second, 2 * index, outputs, outputs, side, w_dim)
        to_rgb = f"to_rgbs.{index - 1}" if index else "to_rgb1"
        yield from _affine_rows(f"{ours}.to_rgb", f"{theirs}.torgb", to_rgb, outputs, w_dim)
        weight = (3, outputs, 1, 1)
        yield Row(f"{ours}.to_rgb.weight", f"{theirs}.torgb.weight", weight, f"{to_rgb}.conv.weight", (1, *weight))
        yield Row(f"{ours}.to_rgb.bias", f"{theirs}.torgb.bias", (3,), f"{to_rgb}.bias", (1, 3, 1, 1))


def _affine_rows(ours: str, theirs: str, rosinality: str, inputs: int, w_dim: int) -> Iterator[Row]:
    for kind, shape in (("weight", (inputs, w_dim)), ("bias", (inputs,))):
        name = f"{rosinality}.conv.modulation.{kind}"
        yield Row(f"{ours}.affine.{kind}", f"{theirs}.affine.{kind}", shape, name, shape)


def _conv_rows(
    ours: str, theirs: str, rosinality: str, noise: int, inputs: int, outputs: int, side: int, w_dim: int
) -> Iterator[Row]:
    yield from _affine_rows(ours, theirs, rosinality, inputs, w_dim)
    weight = (outputs, inputs, 3, 3)
    yield Row(f"{ours}.weight", f"{theirs}.weight", weight, f"{rosinality}.conv.weight", (1, *weight))
    yield Row(f"{ours}.bias", f"{theirs}.bias", (outputs,), f"{rosinality}.activate.bias", (outputs,))
    yield Row(f"{ours}.noise_strength", f"{theirs}.noise_strength", (), f"{rosinality}.noise.weight", (1,))
    map_name, map_shape = f"noises.noise_{noise}", (1, 1, side, side)
    yield Row(f"{ours}.noise", f"{theirs}.noise_const", (side, side), map_name, map_shape)


def constants(config: StyleGAN2Config, layout: Layout) -> dict[str, Tensor]:
    """The resampling filters that a state dict of ``layout`` carries beside the trained tensors."""
    f = setup_filter(TAPS)
    if layout == "nvidia":
        sites = [f"b{side}{site}" for side in config.sides for site in ("", ".conv0", ".conv1")]
        return {f"synthesis.{site}.resample_filter": f.clone() for site in sites if site != "b4.conv0"}
    if layout == "rosinality":
        # rosinality's up-sampling kernels carry the gain of 4.
        names = [f"convs.{2 * i}.conv.blur.kernel" for i in range(len(config.channels) - 1)]
        names += [f"to_rgbs.{i}.upsample.kernel" for i in range(len(config.channels) - 1)]
        return {name: f * 4 for name in names}  # noqa: C420 (one tensor each: safetensors refuses shared ones)
    return {}


def config_from_shapes(shapes: Shapes, layout: Layout) -> StyleGAN2Config:
    """Read a generator's widths and depth off its state dict.

    Raises:
        UnsupportedCheckpoint: a tensor that decides them is missing or has an impossible shape.
    """
    affine, conv, dense = {
        "nvidia": (
            "synthesis.b4.conv1.affine.weight",
            r"synthesis\.b(\d+)\.conv1\.weight",
            r"mapping\.fc(\d+)\.weight",
        ),
        "rosinality": ("conv1.conv.modulation.weight", r"convs\.(\d*[13579])\.conv\.weight", r"style\.(\d+)\.weight"),
        "facelatent": (
            "synthesis_network.blocks.0.conv1.affine.weight",
            r"synthesis_network\.blocks\.(\d+)\.conv1\.weight",
            r"mapping_network\.layers\.(\d+)\.weight",
        ),
    }[layout]
    w_dim = _size(shapes, affine, 1, 2)
    convs = {int(m[1]): shape for key, shape in shapes.items() if (m := re.fullmatch(conv, key, re.ASCII))}
    if layout == "rosinality":
        convs = {8 << (number // 2) if number < 32 else 0: shape[1:] for number, shape in convs.items()}
        convs[4] = shapes.get("conv1.conv.weight", ())[1:]
    elif layout == "facelatent":
        convs = {4 << number if number < 32 else 0: shape for number, shape in convs.items()}
    sides = sorted(convs)
    if sides != [4 << index for index in range(len(sides))] or sides[-1] > MAX_RESOLUTION:
        raise UnsupportedCheckpoint(
            f"convolutions at {sides[:12]} px; a StyleGAN2 has 4, 8, ... up to {MAX_RESOLUTION}"
        )
    if any(len(convs[side]) != 4 for side in sides):
        raise UnsupportedCheckpoint("convolution weights do not have four dimensions")
    layers = sum(1 for key in shapes if re.fullmatch(dense, key, re.ASCII))
    first = {"nvidia": "mapping.fc0", "rosinality": "style.1", "facelatent": "mapping_network.layers.0"}[layout]
    embed = {"nvidia": "mapping.embed.weight", "facelatent": "mapping_network.embed.weight"}.get(layout, "")
    label_dim = _size(shapes, embed, 1, 2) if embed in shapes else 0
    z_dim = _size(shapes, f"{first}.weight", 1, 2) - (w_dim if label_dim else 0)
    channels = tuple(convs[side][0] for side in sides)
    return StyleGAN2Config(channels, z_dim, w_dim, label_dim, layers)


def _size(shapes: Shapes, name: str, dimension: int, rank: int) -> int:
    shape = shapes.get(name)
    if shape is None or len(shape) != rank:
        raise UnsupportedCheckpoint(f"tensor {name} is missing or not {rank}-dimensional (shape {shape})")
    return shape[dimension]


def check_shapes(shapes: Shapes, config: StyleGAN2Config, layout: Layout, optional: frozenset[str]) -> None:
    """Refuse a state dict that is not exactly this generator; ``optional`` names may be missing.

    Raises:
        UnsupportedCheckpoint: the message lists names that are missing, unknown, or of another shape.
    """
    expected = {row.name(layout): row.shape_in(layout) for row in rows(config)}
    filters = {name: tuple(f.shape) for name, f in constants(config, layout).items()}
    missing = sorted(expected.keys() - shapes.keys() - optional)
    unknown = sorted(shapes.keys() - expected.keys() - filters.keys() - optional)
    everything = expected | filters
    differ = sorted(key for key in everything.keys() & shapes.keys() if everything[key] != shapes[key])
    problems = []
    for title, names in (("missing", missing), ("unknown", unknown)):
        if names:
            problems.append(f"{title}: {listed(names)}")
    if differ:
        problems.append("of another shape: " + listed([f"{key} {shapes[key]} for {everything[key]}" for key in differ]))
    if problems:
        raise UnsupportedCheckpoint(f"not a StyleGAN2 of {config.resolution} px; tensors {'; '.join(problems)}")


def listed(names: list[str]) -> str:
    """The first few of ``names`` for a message, each cut to a readable length."""
    rest = len(names) - _NOT_LISTED
    return ", ".join(name[:80] for name in names[:_NOT_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def to_facelatent(state: Mapping[str, Tensor], config: StyleGAN2Config, layout: Layout) -> dict[str, Tensor]:
    """Rename and reshape ``state`` of ``layout`` to our layout; tensors that are missing stay missing."""
    named = ((row, row.name(layout)) for row in rows(config))
    return {row.facelatent: state[name].reshape(row.shape) for row, name in named if name in state}


def from_facelatent(state: Mapping[str, Tensor], config: StyleGAN2Config, layout: Layout) -> dict[str, Tensor]:
    """A state dict of ``layout``, filters included, from one of ours.

    Raises:
        UnsupportedCheckpoint: the layout cannot hold this generator.
    """
    if layout == "rosinality" and (config.label_dim or config.z_dim != config.w_dim):
        raise UnsupportedCheckpoint(
            f"the rosinality layout has no classes and one size for z and w; this generator has {config.label_dim} "
            f"classes, z of {config.z_dim} and w of {config.w_dim}: convert to nvidia-state instead"
        )
    named = {row.name(layout): state[row.facelatent].reshape(row.shape_in(layout)) for row in rows(config)}
    return named | constants(config, layout)
