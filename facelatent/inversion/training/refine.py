"""Descent of an encoder's map through the generator: on pictures, not on codes, and on damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.errors import FacelatentError, InvalidFile
from facelatent.files import atomic_path
from facelatent.inversion.encoders.compact import CompactEncoder, describe
from facelatent.inversion.identity import DlibIdentity
from facelatent.inversion.perceptual import half_precision, load_lpips
from facelatent.inversion.training.augment import damage, scene
from facelatent.inversion.training.discriminator import LatentAdversary, LatentDiscriminator, delta_penalty
from facelatent.inversion.training.pairs import draw, training_ws
from facelatent.inversion.training.processes import Processes
from facelatent.inversion.training.settings import EncoderTraining
from facelatent.stylegan_ops import Generator

#: Seeds of the descent's codes begin here; those of the pairs are lower.
_FIRST_SEED = 1 << 23


class Refinement:
    """A descent that can be stopped and resumed.

    Args:
        encoder: whose map is trained in place.
        generator: whose pictures are drawn and approached; it is not changed.
        settings: see :class:`EncoderTraining`.
        processes: that share the work.
    """

    def __init__(
        self, encoder: CompactEncoder, generator: Generator, settings: EncoderTraining, processes: Processes
    ) -> None:
        self.encoder, self.generator, self.settings, self.processes = encoder, generator, settings, processes
        self.step = 0
        encoder.map.requires_grad_(True)
        self._map = processes.together(encoder.map)
        self._optimizer = torch.optim.Adam(encoder.map.parameters(), settings.learning_rate, betas=(0.9, 0.99))
        self._judge = DlibIdentity(generator.device) if settings.identity else None
        self._adversary = None
        if settings.discriminator:
            torch.manual_seed(settings.seed)
            network = LatentDiscriminator(generator.w_dim).to(generator.device)
            self._adversary = LatentAdversary(processes.together(network))

    def run(self, steps: int, tick: Callable[[float], None]) -> None:
        """Go on until ``steps`` steps are done in all; ``tick`` is told the loss of each.

        Raises:
            FacelatentError: the loss is no longer finite.
        """
        while self.step < steps:
            loss, ws = self._loss()
            if not bool(loss.isfinite()):
                raise FacelatentError(f"the loss is {loss.item()} at step {self.step}; use a lower --learning-rate")
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            if self._adversary is not None:
                z = torch.randn(len(ws), self.generator.z_dim, generator=self._random(1))
                with torch.no_grad():
                    real = self.generator.mapping(z.to(ws.device))
                self._adversary.step(real, ws, self.step)
            self.step += 1
            tick(float(loss.detach()))

    def save(self, path: Path) -> None:
        """Write a checkpoint, from which :meth:`load` goes on."""
        with atomic_path(path) as temporary:
            torch.save(self._state(), temporary)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            InvalidFile: it is damaged, or of another encoder.
        """
        try:
            state = torch.load(path, map_location=self.generator.device, weights_only=True)
            self.encoder.map.load_state_dict(state["map"])
            self._optimizer.load_state_dict(state["optimizer"])
            if self._adversary is not None:
                self._adversary.network.load_state_dict(state["discriminator"])
                self._adversary.optimizer.load_state_dict(state["discriminator_optimizer"])
            self.step = int(state["step"])
        except Exception as error:  # torch.load raises whatever the damage leads to
            raise InvalidFile(
                f"{path} cannot be resumed from ({error}); delete it, and its steps are done again"
            ) from error

    def _state(self) -> dict[str, Any]:
        state = {
            "step": self.step,
            "map": self.encoder.map.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        if self._adversary is not None:
            state["discriminator"] = self._adversary.network.state_dict()
            state["discriminator_optimizer"] = self._adversary.optimizer.state_dict()
        return state

    def _random(self, use: int) -> torch.Generator:
        """Chance of this step and process, one stream a use: a resumed run draws what an unbroken one would."""
        number = (self.step * self.processes.count + self.processes.rank) * 4 + use
        return torch.Generator().manual_seed((self.settings.seed << 24) + _FIRST_SEED + number)

    @torch.no_grad()
    def _examples(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Codes, pictures to be drawn, what the encoder sees of them, and [n] where the codes are those pictures'."""
        settings, random = self.settings, self._random(2)
        number = int(torch.randint(1 << 62, (), generator=random))
        ws = training_ws(self.generator, settings.batch, number)
        images = draw(self.generator, ws)

        def some(share: float) -> Tensor:
            return (torch.rand(len(ws), generator=random) < share).to(images.device)

        moved = some(settings.scenes)
        images = torch.where(moved[:, None, None, None], scene(images, random), images)
        hidden = some(settings.damaged)
        seen = torch.where(hidden[:, None, None, None], damage(images, random), images)
        return ws, images, seen, ~moved

    def _loss(self) -> tuple[Tensor, Tensor]:
        """The loss of this step, and the codes [n, num_ws, 512] that it is of."""
        true, images, seen, known = self._examples()
        with torch.no_grad():
            wanted = describe(seen)
        coordinates = self._map(wanted)
        ws = self.encoder.codes(coordinates)
        return self._distance(ws, coordinates, images, true, known), ws

    def _distance(self, ws: Tensor, coordinates: Tensor, images: Tensor, true: Tensor, known: Tensor) -> Tensor:
        settings = self.settings
        layers = list(range(self.encoder.num_ws))
        found = self.encoder.drawn(coordinates, self.generator, layers)
        loss = settings.pixels * F.mse_loss(found, images)
        # Measurements on the CPU, between steps, take the shared network there.
        network = load_lpips("vgg").to(images.device)
        with torch.no_grad(), half_precision(images.device):
            wanted = network.normalised(images)
        with half_precision(images.device):
            maps = network.normalised(found)
        loss = loss + settings.lpips * network.distance(maps, wanted).mean()
        if self._judge is not None:
            loss = loss + settings.identity * self._judge(found, images).mean()
        if settings.codes:
            wanted_codes = self.encoder.coordinates(true)
            error = (coordinates - wanted_codes).square().mean(1)
            loss = loss + settings.codes * (error * known).mean()
        if settings.delta:
            loss = loss + settings.delta * delta_penalty(ws)
        if self._adversary is not None:
            loss = loss + settings.discriminator * self._adversary.loss(ws)
        return loss
