"""Which generator an encoder's codes are for, and which others can draw them."""

from __future__ import annotations

from dataclasses import dataclass

from facelatent.errors import IncompatibleLatent
from facelatent.stylegan_ops import Generator, same_w_space


@dataclass(frozen=True)
class Home:
    """The generator that codes are for.

    Attributes:
        name: its name.
        fingerprint: its fingerprint.
        w_space: its W space.
        layer_resolutions: for each of its W+ layers, the resolution at which it acts.
    """

    name: str
    fingerprint: str
    w_space: str
    layer_resolutions: tuple[int, ...]

    @classmethod
    def of(cls, generator: Generator) -> Home:
        """That of ``generator``."""
        return cls(generator.name, generator.fingerprint, generator.w_space, generator.layer_resolutions)

    def described(self) -> dict[str, object]:
        """What a file records, for :func:`~facelatent.inversion.encoders.load_encoder` to read."""
        return {
            "generator": self.name,
            "fingerprint": self.fingerprint,
            "w_space": self.w_space,
            "layer_resolutions": self.layer_resolutions,
        }

    def layers_for(self, generator: Generator, encoder: str) -> list[int]:
        """Which of the codes that ``encoder`` gives is for each layer of ``generator``.

        A generator with the same W space may have other layers (a distilled one has fewer): layers of one resolution
        are matched from the last backwards, since the last of all draws the picture's colours in every generator.

        Raises:
            IncompatibleLatent: the codes are not for that generator.
        """
        if self.fingerprint == generator.fingerprint:
            return list(range(generator.num_ws))
        if not same_w_space(self.w_space, generator.w_space):
            raise IncompatibleLatent(
                f"the encoder {encoder} belongs to generator {self.name} ({self.fingerprint}), not to "
                f"{generator.name} ({generator.fingerprint}), whose W space is another; use its own generator, or an "
                "encoder for this one"
            )
        left = {side: self._layers_at(side) for side in self.layer_resolutions}
        layers = []
        for side in reversed(generator.layer_resolutions):
            if not left.get(side):
                raise IncompatibleLatent(
                    f"the encoder {encoder} has too few codes for the {side} px layers of {generator.name}; use its "
                    f"own generator, {self.name}"
                )
            layers.append(left[side].pop())
        return layers[::-1]

    def _layers_at(self, side: int) -> list[int]:
        return [index for index, found in enumerate(self.layer_resolutions) if found == side]
