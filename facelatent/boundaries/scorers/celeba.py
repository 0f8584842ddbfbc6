"""A scorer of CelebA's attributes, by a small network that ``facelatent attributes train-classifier`` makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.boundaries.scorers.crops import crop
from facelatent.boundaries.scorers.interface import FaceScorer, file_version
from facelatent.faces import Face
from facelatent.files import reading, save_tensors

_FORMAT = 1
_KIND = "attribute-classifier"


class AttributeNet(nn.Module):
    """Aligned faces [n, 3, side, side], RGB in [-1, 1] -> one logit an attribute [n, outputs].

    A residual network of four stages, each of which halves the resolution.

    Args:
        outputs: number of attributes.
        width: channels after the first convolution; they double with each stage.
    """

    def __init__(self, outputs: int, width: int = 32) -> None:
        super().__init__()
        widths = [width << stage for stage in range(4)]
        self.stem = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(_Block(a, b) for a, b in zip((width, *widths), widths, strict=False))
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        x = F.relu(self.norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(F.dropout(x.mean((2, 3)), 0.2, self.training))
        return logits


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(y + self.shortcut(F.avg_pool2d(x, 2, ceil_mode=True)))


@dataclass(frozen=True)
class AttributeClassifier:
    """A trained :class:`AttributeNet` and what it was trained to tell.

    Attributes:
        network: in evaluation mode.
        attributes: names of its outputs.
        side: of its input in pixels.
        report: how it was trained and how well it does.
    """

    network: AttributeNet
    attributes: tuple[str, ...]
    side: int
    report: dict[str, Any]

    def save(self, path: str | Path) -> None:
        """Write a safetensors file atomically."""
        metadata = {
            "format": _FORMAT,
            "kind": _KIND,
            "attributes": list(self.attributes),
            "side": self.side,
            "report": self.report,
        }
        save_tensors(path, self.network.state_dict(), metadata)

    @classmethod
    def load(cls, path: str | Path) -> AttributeClassifier:
        """Read such a file.

        Raises:
            InvalidFile: it is missing or is something else.
        """
        with reading(path, _KIND, (_FORMAT,)) as (_, state, metadata):
            attributes = tuple(metadata["attributes"])
            network = AttributeNet(len(attributes), state["stem.weight"].shape[0])
            network.load_state_dict(state)
            return cls(network.eval().requires_grad_(False), attributes, int(metadata["side"]), metadata["report"])


class CelebaScorer(FaceScorer):
    """Probabilities of the attributes of a trained classifier, under the names that CelebA gives them."""

    def __init__(self, classifier: AttributeClassifier, name: str = "celeba", version: str = "1") -> None:
        self.name, self.version, self.classifier = name, version, classifier
        self.attributes = classifier.attributes
        self.units = dict.fromkeys(self.attributes, "probability")
        self.source = "a classifier of your own; CelebA is for non-commercial research"

    @classmethod
    def load(cls, path: str | Path) -> CelebaScorer:
        """A scorer of the file that training wrote; errors as :meth:`AttributeClassifier.load`."""
        return cls(AttributeClassifier.load(path), Path(path).stem, file_version(path))

    @torch.no_grad()
    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """See :class:`FaceScorer`; values in [0, 1]."""
        shape = (self.classifier.side, self.classifier.side)
        crops = [crop(pixels, face, "aligned", shape) for pixels, face in zip(pictures, faces, strict=True)]
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
        # In double precision, sure faces keep their order instead of meeting at 1.
        probabilities: np.ndarray = self.classifier.network(images).double().sigmoid().numpy()
        return probabilities
