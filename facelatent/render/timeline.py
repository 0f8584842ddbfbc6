"""Timelines: what a clip's numbers are at each of its frames. Pure arithmetic: nothing is drawn here."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from facelatent.errors import FacelatentError

#: How fast a number runs between two keys: evenly, softly at both, softly at the first, softly at the second.
Ease = Literal["linear", "smooth", "in", "out"]
#: All of them.
EASES: tuple[Ease, ...] = get_args(Ease)
#: How a clip runs: from its first key to its last; there and back; or once around, to where it began.
Way = Literal["once", "back", "round"]

_CURVES: dict[Ease, Callable[[float], float]] = {
    "linear": lambda place: place,
    "smooth": lambda place: (1 - math.cos(math.pi * place)) / 2,
    "in": lambda place: 1 - math.cos(math.pi * place / 2),
    "out": lambda place: math.sin(math.pi * place / 2),
}


@dataclass(frozen=True)
class Key:
    """What some of a clip's numbers are at one time.

    Attributes:
        time: 0 at the clip's beginning, 1 at its end.
        values: numbers by name.
    """

    time: float
    values: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Key:
        """The key of a text such as ``0.5:smile=3,yaw=-1``.

        Raises:
            FacelatentError: it is no such text, or its time is not between 0 and 1.
        """
        time, colon, rest = text.partition(":")
        pairs = [part.rpartition("=") for part in rest.split(",")]
        try:
            key = cls(float(time), {name.strip(): float(value) for name, _, value in pairs})
        except ValueError:
            key = cls(math.nan, {})
        named = len(key.values) == len(pairs) and all(key.values)
        if not colon or not named or not 0 <= key.time <= 1 or not all(map(math.isfinite, key.values.values())):
            raise FacelatentError(f"a key is a time from 0 to 1 and numbers, such as 0.5:smile=3,yaw=-1, not {text!r}")
        return key


@dataclass(frozen=True)
class Timeline:
    """Numbers that run from key to key.

    Each name has its own keys: one that says nothing of it is passed by. Before its first key and after its last a
    number stays as it is there.

    >>> line = Timeline((Key.parse("0:smile=0"), Key.parse("0.5:smile=2,yaw=-1"), Key.parse("1:yaw=1")), "linear")
    >>> line.at(0.25)
    {'smile': 1.0, 'yaw': -1.0}
    >>> line.at(0.75)
    {'smile': 2.0, 'yaw': 0.0}

    Attributes:
        keys: in any order.
        ease: how fast numbers run between two keys.
    """

    keys: tuple[Key, ...]
    ease: Ease = "smooth"

    def __post_init__(self) -> None:
        times = [(key.time, name) for key in self.keys for name in key.values]
        if not times:
            raise FacelatentError("a timeline has one key or more")
        if twice := sorted({(time, name) for time, name in times if times.count((time, name)) > 1}):
            raise FacelatentError("{1} has two values at {0:g}".format(*twice[0]))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all numbers, in the order in which keys mention them."""
        return tuple(dict.fromkeys(name for key in self.keys for name in key.values))

    @property
    def closed(self) -> bool:
        """Whether the clip moves, and ends as it begins."""
        moving = any(self.span(name)[0] < self.span(name)[1] for name in self.names)
        return moving and self.at(0) == self.at(1)

    def at(self, time: float) -> dict[str, float]:
        """All numbers at a time from 0 to 1."""
        return {name: self._value(name, time) for name in self.names}

    def span(self, name: str) -> tuple[float, float]:
        """The lowest and the highest value of a number."""
        values = [value for _, value in self._track(name)]
        return min(values), max(values)

    def places(self, count: int, way: Way, rest: int = 0) -> list[float]:
        """Times of the frames of a clip.

        Args:
            count: frames that move; there and back, an odd count loses one.
            way: how the clip runs.
            rest: frames for which it stands still at each key, beyond these; the nearest frame is moved to the key.
        """
        if way == "round":
            once = [index / count for index in range(count)]
            order = list(range(count))
        else:
            order = there_and_back(count) if way == "back" else list(range(count))
            last = max(order)
            once = [index / last for index in range(last + 1)] if last else [0.0]
        if not rest:
            return [once[index] for index in order]
        resting = {}
        for time in sorted({key.time for key in self.keys}):
            if not (way == "round" and time == 1):
                resting[min(range(len(once)), key=lambda index: abs(once[index] - time))] = time
        moved = [resting.get(index, time) for index, time in enumerate(once)]
        return [moved[index] for index in order for _ in range(1 + rest * (index in resting))]

    def _track(self, name: str) -> list[tuple[float, float]]:
        return sorted((key.time, key.values[name]) for key in self.keys if name in key.values)

    def _value(self, name: str, time: float) -> float:
        track = self._track(name)
        after = bisect.bisect_right([at for at, _ in track], time)
        if after in (0, len(track)):
            return track[min(after, len(track) - 1)][1]
        (began, first), (ends, last) = track[after - 1], track[after]
        share = _CURVES[self.ease]((time - began) / (ends - began))
        return (1 - share) * first + share * last


def there_and_back(count: int) -> list[int]:
    """Indices of a loop of ``count`` frames that runs to the end and back without showing either end twice.

    An odd count loses one frame. Six frames need four pictures:

    >>> there_and_back(6)
    [0, 1, 2, 3, 2, 1]
    """
    turning = max(count // 2, 1)
    return [*range(turning + 1), *range(turning - 1, 0, -1)]


def between(keys: int) -> Sequence[float]:
    """Times of ``keys`` keys at equal distances, from 0 to 1."""
    return [index / (keys - 1) for index in range(keys)]
