"""Adam for codes and for weights alike: warm-up, cosine decay, a step limit, a time limit, and an early end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: A loss that falls by less than this share does not count as progress.
_PROGRESS = 0.005
#: The share of a run in which the learning rate rises, and what it ends at.
_WARM_UP, _LAST_RATE = 0.05, 0.05


@dataclass(frozen=True)
class Limits:
    """When a descent ends.

    Attributes:
        steps: after so many.
        seconds: or after so long, if given: then the result depends on the machine.
        patience: or when the loss has not fallen by half a per cent within so many steps; None for never.
        enough: or when it is at or below this.
    """

    steps: int
    seconds: float | None = None
    patience: int | None = None
    enough: float | None = None


def descend(
    loss_of: Callable[[int], Tensor],
    parameters: list[Tensor],
    learning_rate: float,
    limits: Limits,
    bar: Any,
    betas: tuple[float, float] = (0.9, 0.95),
) -> None:
    """Move ``parameters``, which require gradients, in place.

    Args:
        loss_of: the loss, by the number of the step.
        parameters: leaves of one learning rate.
        learning_rate: its maximum.
        limits: when to end.
        bar: a tqdm bar of which ``limits.steps`` belong to this descent.
        betas: of Adam.
    """
    optimizer = torch.optim.Adam(parameters, learning_rate, betas=betas)
    best, best_step, began = math.inf, 0, time.monotonic()
    for step in range(limits.steps):
        part = _part_done(step, limits, time.monotonic() - began)
        if part >= 1:
            break
        optimizer.param_groups[0]["lr"] = learning_rate * _rate(part)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        value = float(loss.detach())
        bar.set_postfix(loss=f"{value:.4f}", refresh=False)
        bar.update()
        if value < best * (1 - _PROGRESS):
            best, best_step = value, step
        stuck = limits.patience is not None and step - best_step >= limits.patience
        if stuck or (limits.enough is not None and value <= limits.enough):
            break
    else:
        return
    bar.total -= limits.steps - step - (part < 1)


def _part_done(step: int, limits: Limits, seconds: float) -> float:
    """The share of a descent that is over, by steps or by time, whichever is more."""
    by_steps = step / limits.steps
    if limits.seconds is None:
        return by_steps
    # The step to come must fit in, too.
    needed = seconds * (step + 1) / max(step, 1)
    return max(by_steps, 1.0 if needed > limits.seconds and step else seconds / max(limits.seconds, 1e-9))


def _rate(part: float) -> float:
    decay = (1 + _LAST_RATE + (1 - _LAST_RATE) * math.cos(math.pi * part)) / 2
    return min(1.0, part / _WARM_UP + 0.05) * decay
