"""Several processes at once, as torchrun starts them; alone without it."""

from __future__ import annotations

import torch
from torch import distributed, nn

from facelatent.processes import Share


class Processes:
    """The group of processes of a run.

    Attributes:
        rank: number of this one.
        count: how many there are.
    """

    def __init__(self) -> None:
        share = Share.from_environment()
        self.rank, self.count = share.rank, share.world
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all have come here."""
        if self.count > 1:
            distributed.barrier()

    def together(self, network: nn.Module) -> nn.Module:
        """``network`` with gradients averaged over all processes."""
        return nn.parallel.DistributedDataParallel(network) if self.count > 1 else network
