"""How a generator is adapted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from facelatent.domain_adapt.difa_terms import DifaSettings
from facelatent.domain_adapt.tuned import Scope
from facelatent.domain_adapt.vgg_terms import VggSettings

TermsKind = Literal["vgg", "difa"]


@dataclass(frozen=True)
class AdaptSettings:
    """Settings of :func:`~facelatent.domain_adapt.adapt`; see :data:`VGG` and :data:`DIFA` for two that are good.

    Attributes:
        terms: which set of them guides: VGG16's own, or DIFA's.
        steps: most steps.
        batch: pictures a step.
        scope: which weights change.
        rate: Adam's learning rate of most weights, as the equalised learning rate counts them.
        colour_rate: of what turns features into colours; 0 freezes it.
        fine_rate: share of the rates that layers of 256 px and more have: what they draw is seldom style, and soon
            lost.
        betas: of Adam.
        warm_up: steps in which the rates rise: Adam's first steps move every weight alike.
        last_rate: share of the rates that is left at the end; they fall linearly.
        averaging: share of the average of weights that each step leaves; 0 takes the last weights.
        patience: end when the mean loss of so many steps is not half a per cent below that of as many before; None for
            never.
        people: size of the pool of source pictures, for VGG16.
        psi: their truncation.
        seed: of everything.
        vgg: VGG16's terms; None for what suits the references, :data:`PAINTED` or :data:`GRAPHIC`.
        difa: DIFA's terms.
    """

    terms: TermsKind = "vgg"
    steps: int = 65
    batch: int = 1
    scope: Scope = "convolutions"
    rate: float = 1e-3
    colour_rate: float = 5e-4
    fine_rate: float = 0.3
    betas: tuple[float, float] = (0.0, 0.99)
    warm_up: int = 10
    last_rate: float = 0.1
    averaging: float = 0.9
    patience: int | None = 48
    people: int = 48
    psi: float = 0.85
    seed: int = 0
    vgg: VggSettings | None = None
    difa: DifaSettings = field(default_factory=DifaSettings)

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.people) < 1:
            raise ValueError("steps, batch and people are at least 1")
        if self.rate <= 0 or self.colour_rate < 0 or not 0 <= self.averaging < 1 or not 0 <= self.last_rate <= 1:
            raise ValueError("rates are positive, averaging lies in [0, 1) and last_rate in [0, 1]")


#: VGG16: the offline default.
VGG = AdaptSettings()
#: DIFA, for CLIP: as published, whose Adam has lazy regularisation's ratio of 4/5 in its rate and betas.
DIFA = AdaptSettings(
    "difa",
    steps=301,
    batch=2,
    scope="published",
    rate=0.0016,
    colour_rate=0.0,
    fine_rate=1.0,
    betas=(0.0, 0.99**0.8),
    warm_up=0,
    last_rate=1.0,
    averaging=0.0,
    patience=None,
    psi=1.0,
)
#: StyleGAN-NADA: the global direction alone. A baseline, with whichever guidance.
NADA = replace(DIFA, difa=DifaSettings(style=0.0, consistency=0.0))
