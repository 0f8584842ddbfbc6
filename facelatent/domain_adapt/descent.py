"""The loop: a copy of the generator descends its terms; it can be stopped, looked at and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facelatent.domain_adapt.settings import AdaptSettings
from facelatent.domain_adapt.terms import Terms
from facelatent.domain_adapt.tuned import Adapted, Rates
from facelatent.errors import FacelatentError, InvalidFile
from facelatent.files import load_tensors, save_tensors
from facelatent.inversion.perceptual import half_precision
from facelatent.stylegan_ops import Generator

#: A mean loss that falls by less than this share is no progress.
_PROGRESS = 0.005
# Adam's guard against division by zero: weights with the learning rate's factor folded in have gradients to match.
_EPSILON = 1e-12


class Descent:
    """The state of an adaptation.

    Args:
        source: the generator that is adapted; it stays as it is.
        terms: what guides.
        settings: how.
        record: what a checkpoint must agree with to be gone on from.

    Attributes:
        step: steps that are done.
        history: the sum of the losses of each step.
        last: the losses of the last step by name.
    """

    def __init__(self, source: Generator, terms: Terms, settings: AdaptSettings, record: dict[str, Any]) -> None:
        self.source, self.terms, self.settings, self.record = source, terms, settings, record
        self.adapted = Adapted(source, settings.scope, Rates(settings.rate, settings.colour_rate, settings.fine_rate))
        self.adapted.begin(terms.beginning(source))
        self.step = 0
        self.history: list[float] = []
        self.last: dict[str, float] = {}
        groups = self.adapted.groups()
        self._rates = [float(str(group["lr"])) for group in groups]
        self._optimizer = torch.optim.Adam(groups, betas=settings.betas, eps=_EPSILON)
        self._average = {name: weight.detach().clone() for name, weight in self.adapted.weights.items()}
        self._updating = False

    @property
    def done(self) -> bool:
        """Whether all steps are made, or the loss no longer falls."""
        patience = self.settings.patience
        if self.step >= self.settings.steps:
            return True
        if patience is None or len(self.history) < 2 * patience:
            return False
        now, before = self.history[-patience:], self.history[-2 * patience : -patience]
        return sum(now) > (1 - _PROGRESS) * sum(before)

    def advance(self) -> None:
        """One step.

        Raises:
            FacelatentError: a loss or a gradient is no longer finite, or memory is short; the state is that before.
        """
        try:
            self._advance()
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise self._short_of_memory() from error
        except RuntimeError as error:
            if "allocate memory" not in str(error):
                raise
            raise self._short_of_memory() from error

    def _advance(self) -> None:
        settings = self.settings
        batch = self.terms.batch(self.step)
        with _seeded(settings.seed * 7919 + self.step, self.source.device):
            with mixed_precision(self.source.device):
                images = self.adapted.generator.synthesis(batch.ws, self.terms.noise)
            losses = self.terms.losses(batch, images.float(), self.step)
        total = torch.stack(list(losses.values())).sum()
        if not bool(total.isfinite()):
            wrong = [name for name, loss in losses.items() if not bool(loss.isfinite())]
            raise self._diverged(f"the loss ({', '.join(wrong)})")
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        for name, weight in self.adapted.weights.items():
            if weight.grad is not None and not bool(weight.grad.isfinite().all()):
                raise self._diverged(f"the gradient of {name}")
        self._updating = True
        share = 1 - (1 - settings.last_rate) * self.step / settings.steps
        share *= min(1.0, (self.step + 1) / max(settings.warm_up, 1))
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self._optimizer.step()
        for name, weight in self.adapted.weights.items():
            self._average[name].lerp_(weight.detach(), 1 - settings.averaging)
        self.step += 1
        self._updating = False
        self.history.append(float(total.detach()))
        self.last = {name: float(loss.detach()) for name, loss in losses.items()}

    def deltas(self) -> dict[str, Tensor]:
        """What changed by now, averaged, by the weight's name."""
        return self.adapted.deltas(self._average)

    @torch.no_grad()
    def draw(self, ws: Tensor) -> Tensor:
        """Pictures [n, 3, H, H] of codes by the averaged weights."""
        now = {name: weight.detach().clone() for name, weight in self.adapted.weights.items()}
        self.adapted.load(self._average)
        try:
            return torch.cat([self.adapted.generator.synthesis(code[None]) for code in ws])
        finally:
            self.adapted.load(now)

    def save(self, path: Path) -> None:
        """Write a checkpoint, unless a step was cut short half way: then the last one stays."""
        if self._updating:
            return
        tensors = {}
        for name, weight in self.adapted.weights.items():
            tensors[f"weight.{name}"], tensors[f"average.{name}"] = weight, self._average[name]
            for kind in ("exp_avg", "exp_avg_sq"):
                if kind in self._optimizer.state[weight]:
                    tensors[f"{kind}.{name}"] = self._optimizer.state[weight][kind]
        tensors |= {f"terms.{name}": value for name, value in self.terms.state().items()}
        save_tensors(path, tensors, {"step": self.step, "history": self.history, "record": self.record})

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            InvalidFile: it is damaged, or of an adaptation with another reference, generator or settings.
        """
        tensors, metadata = load_tensors(path)
        if metadata.get("record") != self.record:
            raise InvalidFile(
                f"{path} is of another reference, generator or settings; name another --work folder, or delete it"
            )
        device = self.source.device
        try:
            self.adapted.load({name: tensors[f"weight.{name}"] for name in self._average})
            for name, weight in self.adapted.weights.items():
                self._average[name].copy_(tensors[f"average.{name}"])
                if f"exp_avg.{name}" in tensors:
                    moments = {kind: tensors[f"{kind}.{name}"].to(device) for kind in ("exp_avg", "exp_avg_sq")}
                    self._optimizer.state[weight] = {"step": torch.tensor(float(metadata["step"])), **moments}
            self.step, self.history = int(metadata["step"]), [float(loss) for loss in metadata["history"]]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InvalidFile(f"{path} is damaged ({error}); delete it to begin anew") from error
        of_terms = {key: value for key, value in tensors.items() if key.startswith("terms.")}
        self.terms.restore({key.removeprefix("terms."): value for key, value in of_terms.items()})

    def _diverged(self, what: str) -> FacelatentError:
        return FacelatentError(f"{what} is no longer finite at step {self.step + 1}; use a lower --rate")

    def _short_of_memory(self) -> FacelatentError:
        side, batch = self.source.resolution, self.settings.batch
        ways = ["a lower --batch"] * (batch > 1) + ["a smaller generator"]
        ways += ["--device cpu"] * (self.source.device.type != "cpu")
        return FacelatentError(
            f"out of memory at step {self.step + 1} with a batch of {batch} at {side} px; use {' or '.join(ways)}"
        )


def mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Convolutions in bfloat16 where that is fast, for drawing with weights that descend."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return half_precision(device)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """What is random inside depends on ``seed`` alone, and leaves no trace."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def follow(
    descent: Descent,
    checkpoint: Path | None,
    save_every: int,
    preview: Callable[[int], None],
    preview_every: int,
    tick: Callable[[float], None],
) -> None:
    """Make every step that is left; keep what is done, whatever happens.

    Args:
        descent: see there.
        checkpoint: what progress is kept in; None keeps none.
        save_every: steps.
        preview: called with the number of steps, every ``preview_every`` and at the end.
        preview_every: steps.
        tick: told the loss of each step.
    """
    saved = descent.step
    try:
        while not descent.done:
            descent.advance()
            tick(descent.history[-1])
            if checkpoint is not None and descent.step % save_every == 0:
                descent.save(checkpoint)
                saved = descent.step
            if descent.step % preview_every == 0 or descent.done:
                preview(descent.step)
    finally:
        if checkpoint is not None and descent.step > saved:
            descent.save(checkpoint)
