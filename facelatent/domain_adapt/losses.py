"""The losses of DIFA: a global direction, local style, and what stays of a person.

Zhang et al., "Towards Diverse and Faithful One-shot Adaption of Generative Adversarial Networks", 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: Least length of a difference of embeddings that is divided by: at step 0 both generators draw the same.
_LEAST_LENGTH = 1e-4


def directional_loss(source: Tensor, adapted: Tensor, direction: Tensor) -> Tensor:
    """One less the cosine between how embeddings moved and how they should.

    Gal et al., "StyleGAN-NADA", 2021, equation 2; DIFA's equation 2.

    Args:
        source: [n, d] unit embeddings of the source generator's pictures.
        adapted: [n, d] of the adapted generator's, of the same codes.
        direction: [d] or [1, d] from the source domain to the reference; its length plays no part.

    Returns:
        Scalar in [0, 2]; 1 where source and adapted are equal.
    """
    moved = adapted - source
    moved = moved / moved.norm(dim=-1, keepdim=True).clamp_min(_LEAST_LENGTH)
    loss: Tensor = 1 - (moved * F.normalize(direction, dim=-1)).sum(-1).mean()
    return loss


def relaxed_transport(cost: Tensor) -> Tensor:
    """The relaxed earth mover's distance [n] of costs [n, a, b]: the larger of both sides' mean least cost.

    Kolkin et al., "Style Transfer by Relaxed Optimal Transport and Self-Similarity", 2019, equation 6.
    """
    return torch.maximum(cost.amin(2).mean(1), cost.amin(1).mean(1))


def local_style_loss(tokens: Tensor, reference_tokens: Tensor) -> Tensor:
    """The relaxed earth mover's distance between sets of tokens, by their cosines; DIFA's equation 4.

    Args:
        tokens: [n, a, d] of the adapted generator's pictures.
        reference_tokens: [1 or n, b, d] of the reference, or of all references together.

    Returns:
        Scalar in [0, 2], the mean of the n pictures.
    """
    cosines = F.normalize(tokens, dim=-1) @ F.normalize(reference_tokens, dim=-1).transpose(1, 2)
    return relaxed_transport(1 - cosines).mean()


class ConsistencyLoss:
    """Selective cross-domain consistency: codes keep the channels in which the two domains differ least.

    DIFA's equations 5 and 6. The queues are of batch means, as published.

    Args:
        window: batches whose means are compared; until so many steps are over the loss weighs nothing.
        keep: share of the channels that are held, the published alpha.
        steps: of the whole run: the weight rises to 1 at its end.

    Attributes:
        mask: [channels] 1 for channels that are held; None before the first call.
    """

    def __init__(self, window: int, keep: float, steps: int) -> None:
        if window < 1 or not 0 <= keep <= 1:
            raise ValueError(f"window is at least 1 and keep lies between 0 and 1, got {window} and {keep}")
        self.window, self.keep, self.steps = window, keep, steps
        self.mask: Tensor | None = None
        self.queues: list[Tensor] = []  # one [2, channels] (source, adapted) a batch, the oldest first

    def push(self, source: Tensor, adapted: Tensor) -> None:
        """Add a batch's codes, each [n, ...], to the queues."""
        pair = torch.stack([codes.detach().flatten(1).mean(0) for codes in (source, adapted)])
        self.queues = [*self.queues, pair][-self.window :]

    def __call__(self, source: Tensor, adapted: Tensor, step: int) -> Tensor:
        """Push the codes, and weigh what moved in the channels that are held.

        Args:
            source: [n, ...] codes of the source generator's pictures.
            adapted: of the adapted generator's, in the same shape.
            step: from 0.
        """
        self.push(source, adapted)
        means = torch.stack(self.queues).mean(0)
        shift = (means[1] - means[0]).abs()
        held = shift.argsort()[: int(self.keep * len(shift))]
        self.mask = torch.zeros_like(shift).index_fill_(0, held, 1.0)
        ramp = max(0.0, (step - self.window) / max(self.steps - self.window, 1))
        return ramp * (self.mask * (adapted.flatten(1) - source.flatten(1))).abs().mean()
