"""What a person asks for: where the sliders stand, what is held, which style; and the way back."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from facelatent.errors import FacelatentError, UnknownAttribute

#: How far a slider goes to either side, in standard deviations, and its step.
LARGEST, STEP = 5.0, 0.1
#: How far a style's strength goes, and its step.
STRONGEST_STYLE, STYLE_STEP = 1.5, 0.05
_DECIMALS = 2
#: Looks that can be undone.
_REMEMBERED = 200


@dataclass(frozen=True)
class Look:
    """How a face is to look.

    Attributes:
        alphas: attributes that are changed with their strengths, in the order of the sliders; none is 0.
        holds: attributes whose scores are to stay as they are without the edits.
        style: name of the style that it is drawn in; None for the generator's own.
        style_strength: of the style: 1 as it was made, and without a style.
    """

    alphas: tuple[tuple[str, float], ...] = ()
    holds: tuple[str, ...] = ()
    style: str | None = None
    style_strength: float = 1.0

    @classmethod
    def read(cls, given: Any, attributes: Collection[str], styles: Collection[str]) -> Look:
        """A look as a page describes it.

        As in ``{"alphas": {"smile": 2}, "holds": ["age"], "style": "mona", "style_strength": 0.8}``; what is left out
        is as it was at first. A strength of a held attribute is dropped: what holds it decides about it.

        Args:
            given: whatever came.
            attributes: known ones, in the order of the sliders.
            styles: known ones.

        Raises:
            UnknownAttribute: it names another attribute.
            FacelatentError: it is not such a description, or a strength is not a number within :data:`LARGEST` or
                :data:`STRONGEST_STYLE`.
        """
        if not isinstance(given, dict) or not given.keys() <= {"alphas", "holds", "style", "style_strength"}:
            raise FacelatentError("a look is an object with alphas, holds, style and style_strength")
        alphas, holds, style = given.get("alphas", {}), given.get("holds", []), given.get("style")
        if not isinstance(alphas, dict) or not isinstance(holds, list):
            raise FacelatentError("alphas is an object of strengths, holds a list of attributes")
        for name in [*alphas, *holds]:
            if not isinstance(name, str) or name not in attributes:
                raise UnknownAttribute(f"unknown attribute {reprlib.repr(name)} (known: {', '.join(attributes)})")
        if style is not None and (not isinstance(style, str) or style not in styles):
            raise FacelatentError(f"unknown style {reprlib.repr(style)} (known: {', '.join(styles) or 'none'})")
        style_strength = _strength("the style", given.get("style_strength", 1.0), 0.0, STRONGEST_STYLE)
        strengths = {name: _strength(name, alpha) for name, alpha in alphas.items()}
        moved = tuple((name, strengths[name]) for name in attributes if strengths.get(name) and name not in holds)
        held = tuple(name for name in attributes if name in holds)
        return cls(moved, held, style, 1.0 if style is None else style_strength)

    def described(self) -> dict[str, Any]:
        """What :meth:`read` reads."""
        style = {"style": self.style, "style_strength": self.style_strength}
        return {"alphas": dict(self.alphas), "holds": list(self.holds), **style}


def _strength(name: str, value: Any, least: float = -LARGEST, most: float = LARGEST) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value <= most:  # which NaN is not either
        seen = reprlib.repr(value)
        raise FacelatentError(f"the strength of {name} is a number from {least:g} to {most:g}, not {seen}")
    # Rounded, so that the command that is shown says it exactly.
    return round(float(value), _DECIMALS) + 0.0


@dataclass
class History:
    """Looks that were chosen one after another, with a place among them. May be read from other threads."""

    _looks: list[Look] = field(default_factory=lambda: [Look()])
    _place: int = 0

    @property
    def current(self) -> Look:
        """The look that is chosen."""
        return self._looks[self._place]

    @property
    def can_undo(self) -> bool:
        """Whether there is a look before it."""
        return self._place > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is a look after it."""
        return self._place + 1 < len(self._looks)

    def put(self, look: Look) -> None:
        """Choose a look; those that were undone are forgotten. The current one again changes nothing."""
        if look != self.current:
            self._looks = [*self._looks[: self._place + 1], look][-_REMEMBERED:]
            self._place = len(self._looks) - 1

    @property
    def before(self) -> Look:
        """The look that :meth:`undo` goes to: the current one if there is none before it."""
        return self._looks[max(self._place - 1, 0)]

    @property
    def after(self) -> Look:
        """The look that :meth:`redo` goes to: the current one if nothing was undone."""
        return self._looks[min(self._place + 1, len(self._looks) - 1)]

    def undo(self) -> None:
        """Go back to the look before, if there is one."""
        self._place = max(self._place - 1, 0)

    def redo(self) -> None:
        """Go forth again, if something was undone."""
        self._place = min(self._place + 1, len(self._looks) - 1)
