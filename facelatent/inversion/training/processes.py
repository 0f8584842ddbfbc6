"""Several processes at once, as torchrun starts them; alone without it."""

from __future__ import annotations

import os

import torch
from torch import distributed, nn


class Processes:
    """The group of processes of a run.

    Attributes:
        rank: number of this one.
        count: how many there are.
    """

    def __init__(self) -> None:
        self.rank, self.count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    @staticmethod
    def device() -> str | None:
        """This process's own GPU; None without torchrun or without GPUs."""
        if "LOCAL_RANK" not in os.environ or not torch.cuda.is_available():
            return None
        return f"cuda:{os.environ['LOCAL_RANK']}"

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
