"""StyleGAN2's synthesis on a GPU: fused, fused by a CUDA graph, and with the structure of NVIDIA's, in one run.

    python benchmarks/gpu_synthesis.py
    python benchmarks/gpu_synthesis.py --dry-run     tiny, on the CPU: only to see that it runs

The unfused structure has per-sample weights, grouped convolutions, NCHW, and separate resampling, noise, activation,
colours and skip connections; its resampling and activation are our own compiled operators, as fast as any.
Weights are random: they do not change the time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from common import copy_bandwidth, interleaved, matrix_peak, publish
from torch import Tensor
from torch.nn import functional as F

from facelatent.stylegan_ops import StyleGAN2, StyleGAN2Config, bias_act, channels_for, upfirdn2d, upsample2d
from facelatent.stylegan_ops.cuda_graph import Captured
from facelatent.stylegan_ops.stylegan2 import HALF_CLAMP, StyledConv

#: Microseconds a picture that the arithmetic and the bytes of an H200 allow in float16, by resolution and batch.
PAPER_FLOOR = {(1024, 1): 245, (1024, 8): 241, (1024, 32): 241, (256, 1): 125, (256, 8): 122, (256, 32): 122}


def random_generator(resolution: int, dtype: torch.dtype, device: str) -> StyleGAN2:
    torch.manual_seed(0)
    generator = StyleGAN2("random", StyleGAN2Config(channels_for(resolution)))
    for name, value in generator.named_parameters():
        value.normal_(float(name.endswith("affine.bias")), 1.0 if name.endswith("weight") else 0.1)
    generator = generator.to(device)
    if dtype != torch.float32:
        generator.set_precision(dtype, blocks=len(generator.config.channels) - 1)
    return generator


def convolved(x: Tensor, layer: StyledConv, style: Tensor, up_filter: Tensor) -> Tensor:
    """With weights of each sample's own: x [n, inputs, h, w], style [n, inputs] -> [n, outputs, side, side]."""
    n, (outputs, inputs) = len(x), layer.weight.shape[:2]
    weight = layer.weight
    if x.dtype == torch.float16:
        weight = weight / (weight.abs().amax((1, 2, 3), keepdim=True) * (inputs * 9) ** 0.5)
        style = style / style.abs().amax(1, keepdim=True)
    modulated = weight[None] * style[:, None, :, None, None]
    modulated = modulated * (modulated.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    modulated, x = modulated.to(x.dtype), x.reshape(1, n * inputs, *x.shape[2:])
    if layer.up:
        x = F.conv_transpose2d(x, modulated.transpose(1, 2).reshape(n * inputs, outputs, 3, 3), stride=2, groups=n)
        return upfirdn2d(x.reshape(n, outputs, *x.shape[2:]), up_filter, padding=1, gain=4)
    x = F.conv2d(x, modulated.reshape(n * outputs, inputs, 3, 3), padding=1, groups=n)
    return x.reshape(n, outputs, *x.shape[2:])


def unfused(generator: StyleGAN2, ws: Tensor) -> Tensor:
    """The picture by the structure of NVIDIA's implementation."""
    network, styles = generator.synthesis_network, generator.styles(ws)
    x, image = network.const.expand(len(ws), -1, -1, -1), None
    for site, block in network.resolutions():
        x = x.to(block.dtype)
        for name, layer in block.layers():
            style = styles[f"{site}.{name}"]
            if isinstance(layer, StyledConv):
                x = convolved(x, layer, style, network.up_filter)
                x = x + (layer.noise * layer.noise_strength).to(x.dtype)
                x = bias_act(x, layer.bias.to(x.dtype), act="lrelu", clamp=network.clamp)
                continue
            weight = layer.weight[None] * (style / style.shape[1] ** 0.5)[:, None, :, None, None]
            grouped = x.reshape(1, -1, *x.shape[2:])
            colours = F.conv2d(grouped, weight.to(x.dtype).reshape(-1, x.shape[1], 1, 1), groups=len(x))
            colours = bias_act(colours.reshape(len(x), 3, *x.shape[2:]), layer.bias.to(x.dtype), clamp=network.clamp)
            image = colours.float() if image is None else upsample2d(image, network.up_filter) + colours.float()
    assert image is not None
    return image


def work(config: StyleGAN2Config, batch: int, size: int) -> tuple[float, float]:
    """FLOP of the convolutions, and bytes that they and the pictures move at least, at ``size`` bytes a value."""
    flops = moved = 0.0
    for index, (side, outputs) in enumerate(zip(config.sides, config.channels, strict=True)):
        layers = [(outputs, side)]
        if index:
            layers.append((config.channels[index - 1], side // 2))
        for inputs, seen in layers:
            flops += batch * 2 * 9 * inputs * outputs * seen**2
            # The convolution's input and output, and the epilogue's.
            values = batch * (inputs * seen**2 + 3 * outputs * side**2)
            moved += size * (values + 9 * inputs * outputs)
        moved += 4 * batch * 3 * side**2
    return flops, moved


def measure(
    resolution: int, batch: int, dtype: torch.dtype, device: str, repeats: int, bandwidth: float, peak: float
) -> dict[str, Any]:
    generator = random_generator(resolution, dtype, device)
    ws = torch.randn(batch, generator.num_ws, 512, device=device)
    captured = Captured(generator)
    ways: dict[str, Callable[[], Tensor]] = {
        "eager": lambda: generator.synthesis(ws),
        "graph": lambda: captured(ws),
        "unfused": lambda: unfused(generator, ws),
    }
    fused, plain = ways["graph"](), ways["unfused"]()
    error = float((fused - plain).square().mean().sqrt() / plain.square().mean().sqrt())
    seconds = interleaved(ways, repeats, device)
    best = min(seconds["eager"], seconds["graph"])
    flops, moved = work(generator.config, batch, dtype.itemsize)
    floor = PAPER_FLOOR.get((resolution, batch)) if dtype == torch.float16 else None
    return {
        "px": resolution,
        "batch": batch,
        "dtype": str(dtype).removeprefix("torch."),
        **{f"{name}, ms": 1e3 * value for name, value in seconds.items()},
        "unfused / best": seconds["unfused"] / best,
        "us a picture": 1e6 * best / batch,
        "x paper floor": 1e6 * best / batch / floor if floor else "",
        "of copy bandwidth": moved / best / bandwidth,
        "of matrix peak": flops / best / peak,
        "relative rms to unfused": error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--name", default="synthesis_gpu", help="of the result file")
    parser.add_argument("--dry-run", action="store_true", help="a tiny size on the CPU")
    options = parser.parse_args()
    device = "cpu" if options.dry_run else "cuda"
    resolutions, batches = ((16,), (1, 2)) if options.dry_run else ((256, 1024), (1, 8, 32))
    dtypes = (torch.float32, torch.bfloat16 if options.dry_run else torch.float16)
    torch.backends.cudnn.benchmark = True
    bandwidth = copy_bandwidth(device)
    rows = []
    with torch.no_grad():
        for dtype in dtypes:
            peak = matrix_peak(device, dtype)
            for resolution in resolutions:
                for batch in batches:
                    rows.append(measure(resolution, batch, dtype, device, options.repeats, bandwidth, peak))
                    print(rows[-1], flush=True)
    facts = {
        "copy bandwidth, GB/s": bandwidth / 1e9,
        "matrix peak of the last dtype, TFLOP/s": peak / 1e12,
        "TF32 in convolutions": torch.backends.cudnn.allow_tf32,
        "half precision": f"all blocks but 4 px, clamped to {HALF_CLAMP:g}",
    }
    publish(options.name, rows, **facts)


if __name__ == "__main__":
    main()
