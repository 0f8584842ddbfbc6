"""Strips and grids of labelled pictures."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_GAP = 4
_BACKGROUND = "white"
_INK = "#202020"


def strip(images: Sequence[Image.Image], labels: Sequence[str] | None = None, size: int = 256) -> Image.Image:
    """Pictures side by side, each ``size`` px square, with a label under each.

    >>> strip([Image.new("RGB", (64, 64))] * 3, size=100).size  # four pixels between two of them
    (308, 100)
    """
    return grid([images], [labels] if labels else None, size)


def grid(
    rows: Sequence[Sequence[Image.Image]],
    labels: Sequence[Sequence[str]] | None = None,
    size: int = 256,
    titles: Sequence[str] | None = None,
) -> Image.Image:
    """Rows of square pictures on white.

    Args:
        rows: pictures; rows may differ in length.
        labels: a label under each picture, in the same shape.
        size: side of each picture in pixels.
        titles: one word or two left of each row.
    """
    points = max(size // 16, 11)
    font = ImageFont.load_default(points)
    line = round(points * 1.5) if labels else 0
    margin = round(max(font.getlength(title) for title in titles)) + 3 * _GAP if titles else 0
    columns = max(len(row) for row in rows)
    sheet = Image.new(
        "RGB", (margin + columns * (size + _GAP) - _GAP, len(rows) * (size + line + _GAP) - _GAP), _BACKGROUND
    )
    draw = ImageDraw.Draw(sheet)
    for y_index, row in enumerate(rows):
        top = y_index * (size + line + _GAP)
        if titles:
            draw.text((_GAP, top + size // 2), titles[y_index], _INK, font, anchor="lm")
        for x_index, image in enumerate(row):
            left = margin + x_index * (size + _GAP)
            sheet.paste(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS), (left, top))
            if labels:
                middle = (left + size // 2, top + size + line // 2)
                draw.text(middle, labels[y_index][x_index], _INK, font, anchor="mm")
    return sheet
