"""DIFA's terms as published: a global direction, local style, selective consistency; with CLIP, or another guidance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from facelatent.assets import converted
from facelatent.domain_adapt.guidance.interface import Guidance
from facelatent.domain_adapt.losses import ConsistencyLoss, directional_loss, local_style_loss
from facelatent.domain_adapt.pool import class_of
from facelatent.domain_adapt.reference import Reference
from facelatent.domain_adapt.terms import Batch
from facelatent.inversion import Encoder
from facelatent.stylegan_ops import Generator
from facelatent.stylegan_ops.generator import Noise

#: Raise it when a mean embedding would come out otherwise.
_VERSION = 1


@dataclass(frozen=True)
class DifaSettings:
    """DIFA's terms; the defaults are published weights, with what was amiss in the published code mended.

    Attributes:
        direction: weight of the global direction.
        style: of the local style, in each guidance network.
        consistency: of selective cross-domain consistency.
        layers: first W+ layers that are held consistent.
        keep: share of their channels that is held.
        window: batches in the queues.
        batch_norm_train: the encoder's batch normalisation uses each small batch's own statistics, as published.
        independent_noise: both generators draw with noise of their own.
        queue_previews: previews push their codes into the queues, as published.
        first_tokens_only: of several references only the first gives tokens, as published.
        mean_samples: pictures of the source generator whose mean embedding the direction begins at; 0 for the origin,
            which the published code takes where it has no file of them.
        mean_psi: truncation of those pictures.
    """

    direction: float = 1.0
    style: float = 1.0
    consistency: float = 6.0
    layers: int = 7
    keep: float = 0.6
    window: int = 50
    batch_norm_train: bool = False
    independent_noise: bool = True
    queue_previews: bool = False
    first_tokens_only: bool = False
    mean_samples: int = 1000
    mean_psi: float = 1.0


#: The published code with its quirks.
FAITHFUL = DifaSettings(batch_norm_train=True, queue_previews=True, first_tokens_only=True)


class DifaTerms:
    """DIFA; see :class:`~facelatent.domain_adapt.terms.Terms`.

    Args:
        guidances: image encoders, CLIP's as published; their losses are added.
        references: prepared; may be empty where there are ``directions``.
        source: the source generator.
        encoder: whose codes are held consistent; None leaves that out.
        steps: of the whole run.
        batch: pictures a step.
        seed: of the codes and the noise.
        settings: the terms.
        directions: one for each guidance, instead of those from the source's mean to the references: from texts.
        progress: show a bar while the source's mean embedding is computed.
    """

    def __init__(
        self,
        guidances: Sequence[Guidance],
        references: Sequence[Reference],
        source: Generator,
        encoder: Encoder | None,
        steps: int,
        batch: int = 2,
        seed: int = 0,
        settings: DifaSettings | None = None,
        directions: Sequence[Tensor] | None = None,
        progress: bool = False,
    ) -> None:
        self.settings = settings or DifaSettings()
        self.noise: Noise = "random" if self.settings.independent_noise else "const"
        self._guidances, self._source, self._encoder = guidances, source, encoder
        self._size, self._seed = batch, seed
        self._consistency = ConsistencyLoss(self.settings.window, self.settings.keep, steps)
        images = torch.cat([reference.image for reference in references]).to(source.device) if references else None
        with torch.no_grad():
            self._tokens = [self._reference_tokens(guidance, images) for guidance in guidances]
            self._directions = [
                directions[index] if directions is not None else self._direction(guidance, images, progress)
                for index, guidance in enumerate(guidances)
            ]
        if isinstance(encoder, nn.Module):
            encoder.train(self.settings.batch_norm_train)

    def beginning(self, source: Generator) -> dict[str, Tensor]:
        """The source's."""
        return {}

    @torch.no_grad()
    def batch(self, step: int) -> Batch:
        """New people, without truncation."""
        random = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        z = torch.randn(self._size, self._source.z_dim, generator=random).to(self._source.device)
        label = None
        if self._source.label_dim:
            classes = torch.randint(self._source.label_dim, (self._size,), generator=random)
            label = F.one_hot(classes, self._source.label_dim).float().to(z)
        return Batch(self._source.broadcast(self._source.mapping(z, label)).contiguous())

    def losses(self, batch: Batch, images: Tensor, step: int) -> dict[str, Tensor]:
        """See :class:`~facelatent.domain_adapt.terms.Terms`."""
        settings = self.settings
        with torch.no_grad():
            source = self._source.synthesis(batch.ws, self.noise).float()
        found: dict[str, Tensor] = {}
        for guidance, direction, tokens in zip(self._guidances, self._directions, self._tokens, strict=True):
            adapted = guidance(images)
            with torch.no_grad():
                before = guidance(source)
            if settings.direction:
                loss = directional_loss(before.embedding, adapted.embedding, direction)
                found[f"direction {guidance.name}"] = settings.direction * loss
            if settings.style and tokens is not None:
                # Published inside the directional term, whose weight therefore counts here too.
                loss = local_style_loss(adapted.tokens, tokens)
                found[f"style {guidance.name}"] = settings.direction * settings.style * loss
        if self._encoder is not None and settings.consistency:
            with torch.no_grad():
                kept = self._codes(source)
            loss = self._consistency(kept, self._codes(images), step)
            found["consistency"] = settings.consistency * loss
        return found

    @torch.no_grad()
    def previewed(self, source: Tensor, adapted: Tensor) -> None:
        """Take note of a preview's pictures, if what was published is asked for."""
        if self._encoder is not None and self.settings.queue_previews:
            self._consistency.push(self._codes(source), self._codes(adapted))

    def state(self) -> dict[str, Tensor]:
        """The queues."""
        return {"queues": torch.stack(self._consistency.queues)} if self._consistency.queues else {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state`."""
        if "queues" in state:
            self._consistency.queues = list(state["queues"].to(self._source.device).unbind(0))

    def described(self) -> dict[str, Any]:
        """Facts for the report."""
        names = [guidance.name for guidance in self._guidances]
        encoder = None if self._encoder is None else self._encoder.name
        return {"guidance": ", ".join(names), "encoder": encoder, "settings": asdict(self.settings)}

    def _codes(self, images: Tensor) -> Tensor:
        assert self._encoder is not None
        return self._encoder.encode(images)[:, : self.settings.layers]

    def _reference_tokens(self, guidance: Guidance, images: Tensor | None) -> Tensor | None:
        """[1, places of all references, width]."""
        if images is None:
            return None
        tokens = guidance(images).tokens
        return (tokens[:1] if self.settings.first_tokens_only else tokens).flatten(0, 1)[None]

    def _direction(self, guidance: Guidance, images: Tensor | None, progress: bool) -> Tensor:
        if images is None:
            raise ValueError("there is neither a reference nor a direction")
        wanted = F.normalize(guidance(images).embedding.mean(0), dim=0)
        mean = mean_embedding(guidance, self._source, self.settings, progress)
        return F.normalize(wanted - mean.to(wanted), dim=0)


@torch.no_grad()
def mean_embedding(guidance: Guidance, source: Generator, settings: DifaSettings, progress: bool = False) -> Tensor:
    """The mean [d] of the unit embeddings of the source generator's pictures, from the cache if it was made before."""
    count, psi = settings.mean_samples, settings.mean_psi

    def build() -> tuple[dict[str, Tensor], dict[str, Any]]:
        found = []
        for seed in tqdm(range(count), desc="mean of the source", unit="face", disable=not progress):
            w = source.sample_w(seed, psi, class_of(source, seed))
            found.append(guidance(source.synthesis(source.broadcast(w))).embedding)
        return {"mean": torch.cat(found).mean(0)}, {"guidance": guidance.version, "generator": source.name}

    if not count:
        return torch.zeros_like(guidance(torch.zeros(1, 3, 64, 64, device=source.device)).embedding[0])
    key = hashlib.sha256(f"{guidance.version} {source.fingerprint} {count} {psi}".encode()).hexdigest()[:16]
    return converted(f"mean-{key}", _VERSION, build)[0]["mean"].to(source.device)
