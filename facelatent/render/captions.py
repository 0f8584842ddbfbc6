"""What is written under the frames of an animation: its numbers, or slider bars; and pictures beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

#: Numbers in words, or as a slider bar each.
Caption = Literal["label", "sliders"]

_GAP = 4
_BACKGROUND, _INK, _RAIL, _KNOB = "white", "#202020", "#d0d0d0", "#2f6fd0"


def beside(first: Image.Image, second: Image.Image) -> Image.Image:
    """Two pictures side by side on white, the first scaled to the second's height.

    >>> beside(Image.new("RGB", (10, 20)), Image.new("RGB", (50, 40))).size  # 20 and 50 px, and four between them
    (74, 40)
    """
    width = round(first.width * second.height / first.height)
    sheet = Image.new("RGB", (width + _GAP + second.width, second.height), _BACKGROUND)
    sheet.paste(first.convert("RGB").resize((width, second.height), Image.Resampling.LANCZOS), (0, 0))
    sheet.paste(second, (width + _GAP, 0))
    return sheet


def captioned(
    image: Image.Image, values: Mapping[str, float], spans: Mapping[str, tuple[float, float]], kind: Caption
) -> Image.Image:
    """A picture with its numbers under it.

    Args:
        image: a frame.
        values: its numbers by name.
        spans: for sliders, the lowest and the highest value of each.
        kind: how they are shown. Each stands at a place of its own in all frames of a clip.
    """
    points = max(image.width // 22, 10)
    line = round(points * 1.6)
    sheet = Image.new("RGB", (image.width, image.height + line * len(values)), _BACKGROUND)
    sheet.paste(image, (0, 0))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(points)
    name_width = max((font.getlength(name) for name in values), default=0)
    number_width = font.getlength("-00.0")
    for row, (name, value) in enumerate(values.items()):
        number = f"{round(value, 1) + 0.0:+.1f}"  # adding 0 makes 0 of -0
        middle = image.height + line * row + line // 2
        draw.text((_GAP, middle), name, _INK, font, anchor="lm")
        if kind == "label":
            draw.text((2 * _GAP + name_width + number_width, middle), number, _INK, font, anchor="rm")
        else:
            draw.text((image.width - _GAP, middle), number, _INK, font, anchor="rm")
            left, right = 3 * _GAP + name_width + points // 2, image.width - 3 * _GAP - number_width - points // 2
            _slider(draw, (left, right), middle, _share(value, spans[name]), points // 3)
    return sheet


def _share(value: float, span: tuple[float, float]) -> float:
    """Where a value lies between the ends of its slider, which has 0 on it."""
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    return (value - low) / (high - low) if high > low else 0.5


def _slider(draw: ImageDraw.ImageDraw, ends: tuple[float, float], middle: float, share: float, radius: int) -> None:
    left, right = ends
    if right <= left:
        return
    at = left + share * (right - left)
    draw.line((left, middle, right, middle), _RAIL, max(radius // 2, 1))
    draw.ellipse((at - radius, middle - radius, at + radius, middle + radius), _KNOB)
