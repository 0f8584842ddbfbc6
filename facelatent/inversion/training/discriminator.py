"""e4e's latent discriminator: keeps an encoder's codes where the generator's own codes lie, and edits working."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Of Adam, and of R1; every so many steps R1 is added (Tov et al., 2021, appendix; as published).
_LEARNING_RATE, _R1, _R1_EVERY = 2e-5, 10.0, 16


class LatentDiscriminator(nn.Module):
    """Tells w that the mapping network made from those of an encoder: [n, 512] -> [n] logits, high for real ones."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Linear(width, width), nn.LeakyReLU(0.2)]
        self.mlp = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, w: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.mlp(w)[:, 0]
        return logits


class LatentAdversary:
    """A discriminator and its training.

    Args:
        network: of :class:`LatentDiscriminator`, perhaps wrapped for several processes.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters(), _LEARNING_RATE)

    def loss(self, ws: Tensor) -> Tensor:
        """What the encoder pays for codes [n, num_ws, 512] that are told apart (equation 5)."""
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        loss: Tensor = F.softplus(-self.network(ws.flatten(0, 1))).mean()
        return loss

    def step(self, real: Tensor, found: Tensor, step: int) -> None:
        """Learn to tell w [n, 512] of the mapping network from an encoder's codes [m, num_ws, 512]."""
        for parameter in self.network.parameters():
            parameter.requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        real = real.detach().requires_grad_(step % _R1_EVERY == 0)
        judged = self.network(real)
        loss = F.softplus(-judged).mean() + F.softplus(self.network(found.detach().flatten(0, 1))).mean()
        if real.requires_grad:
            (gradient,) = torch.autograd.grad(judged.sum(), real, create_graph=True)
            loss = loss + _R1 / 2 * _R1_EVERY * gradient.square().sum(1).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def delta_penalty(ws: Tensor) -> Tensor:
    """e4e's delta regularisation (equation 3) of codes [n, num_ws, 512]: the sum of ``|w_i - w_0|``, mean over n."""
    penalty: Tensor = (ws[:, 1:] - ws[:, :1]).norm(dim=2).sum(1).mean()
    return penalty
