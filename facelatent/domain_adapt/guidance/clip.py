"""CLIP as guidance, through open_clip: what DIFA and StyleGAN-NADA were published with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.assets import ASSETS, asset_path
from facelatent.boundaries.scorers.clip import MEAN, STD, clip_network, import_open_clip
from facelatent.boundaries.scorers.interface import file_version
from facelatent.domain_adapt.guidance.interface import Described
from facelatent.errors import GuidanceUnavailable, ScorerUnavailable

Precision = Literal["fp32", "fp16"]


class ClipGuidance:
    """A vision transformer of CLIP; see :class:`~facelatent.domain_adapt.guidance.interface.Guidance`.

    Args:
        weights: a state dict's file (safetensors, or .pt and .bin whose code is not run), an asset's name, or a tag
            that open_clip knows for the architecture, which it fetches: ``openai``, ``laion2b_s34b_b79k`` ...
        model: ``ViT-B-32`` or ``ViT-B-16``, as open_clip calls it.
        precision: ``fp16`` only on a GPU, where the published code used it.
        device: where to compute.
        layer: the transformer's block, from 0, whose output is the tokens; the published is the fourth.
        antialias: when pictures are made smaller; what was published did without.
        quick_gelu: as OpenAI's weights want it.

    Raises:
        GuidanceUnavailable: open_clip is not installed, or has no such weights.
        UnsupportedCheckpoint: the file holds other weights.
    """

    def __init__(
        self,
        weights: str | Path,
        model: str = "ViT-B-32",
        precision: Precision = "fp32",
        device: str | torch.device = "cpu",
        layer: int = 3,
        antialias: bool = True,
        quick_gelu: bool = True,
    ) -> None:
        self._device = torch.device(device)
        if precision == "fp16" and self._device.type == "cpu":
            raise GuidanceUnavailable("CLIP in fp16 needs a GPU; use fp32")
        self.name = f"clip-{model}"
        self._network, source = _network(str(weights), model, quick_gelu)
        self._network = self._network.eval().requires_grad_(False).to(self._device)
        self._dtype = torch.float16 if precision == "fp16" else torch.float32
        self._network.to(self._dtype)
        blocks = getattr(getattr(self._network.visual, "transformer", None), "resblocks", ())
        if not 0 <= layer < len(blocks):
            raise GuidanceUnavailable(f"{model} has no transformer block {layer}; use ViT-B-32 or ViT-B-16")
        self._block, self._batch_first = blocks[layer], bool(self._network.visual.transformer.batch_first)
        self._model, self._antialias = model, antialias
        size = self._network.visual.image_size
        self._size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        self.version = f"{self.name} {source} {precision} {layer} {antialias} {quick_gelu}"

    def __call__(self, images: Tensor) -> Described:
        """See :class:`~facelatent.domain_adapt.guidance.interface.Guidance`; tokens are without the class token."""
        seen: list[Tensor] = []
        hook = self._block.register_forward_hook(lambda module, inputs, output: seen.append(output))
        try:
            embedding = self._network.encode_image(self.prepared(images), normalize=True)
        finally:
            hook.remove()
        tokens = seen[0] if self._batch_first else seen[0].transpose(0, 1)
        return Described(embedding.float(), tokens[:, 1:].float())

    def prepared(self, images: Tensor) -> Tensor:
        """Pictures [n, 3, H, W] in [-1, 1] as the network takes them."""
        shown = ((images + 1) / 2).to(self._device)
        shown = F.interpolate(shown, self._size, mode="bicubic", antialias=self._antialias, align_corners=False)
        mean, std = (torch.tensor(values, device=self._device)[:, None, None] for values in (MEAN, STD))
        return ((shown - mean) / std).to(self._dtype)

    @torch.no_grad()
    def describe_texts(self, texts: list[str]) -> Tensor:
        """Unit embeddings [n, d] of lines of text."""
        tokens = import_open_clip().get_tokenizer(self._model)(texts).to(self._device)
        embedding: Tensor = self._network.encode_text(tokens, normalize=True)
        return embedding.float()


def _network(weights: str, model: str, quick_gelu: bool) -> tuple[Any, str]:
    """The network, and which weights it has."""
    path = asset_path(weights) if any(asset.name == weights for asset in ASSETS) else Path(weights)
    try:
        if path.is_file():
            return clip_network(path, model, quick_gelu), file_version(path)
        open_clip = import_open_clip()
    except ScorerUnavailable as error:
        raise GuidanceUnavailable(str(error)) from error
    tags = open_clip.list_pretrained_tags_by_model(model)
    if weights not in tags:
        known = ", ".join(tags[:6]) or "none: the architecture is not known"
        raise GuidanceUnavailable(
            f"no CLIP weights at {weights!r}: it is neither a file, an asset nor an open_clip tag of {model} ({known})"
        )
    return _fetched(open_clip, weights, model, quick_gelu), weights


def _fetched(open_clip: Any, tag: str, model: str, quick_gelu: bool) -> Any:
    logging.disable(logging.ERROR)  # the hub's client tells the same failure three times
    try:
        return open_clip.create_model(model, pretrained=tag, force_quick_gelu=quick_gelu)
    except Exception as error:  # the hub's client raises its own kinds
        reason = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise GuidanceUnavailable(
            f"open_clip cannot fetch the weights {tag!r} of {model} ({reason[:200]}); check the network, or fetch them "
            "elsewhere and name the file"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
