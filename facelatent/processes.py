"""Several processes at once, as torchrun starts them: which one this is."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's.

    Attributes:
        rank: its number.
        world: how many processes there are.
        device: which GPU is its own, where there are several processes.
    """

    rank: int = 0
    world: int = 1
    device: str | None = None

    @classmethod
    def from_environment(cls) -> Share:
        """What torchrun says: its RANK, WORLD_SIZE and LOCAL_RANK; one process without them.

        Raises:
            ValueError: they are not whole numbers, or the rank is not below the size.
        """
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if not 0 <= rank < world:
            raise ValueError(f"RANK must be from 0 to WORLD_SIZE - 1, got {rank} of {world}")
        gpus = torch.cuda.device_count() if world > 1 else 0
        return cls(rank, world, f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % gpus}" if gpus else None)


#: One process does everything.
ALONE = Share()
