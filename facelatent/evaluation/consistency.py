"""Whether codes are stable: invert, edit, draw, invert again, undo the edit; what is left is what got lost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from facelatent.editing import AttributeEdit, draw
from facelatent.stylegan_ops import Generator


@dataclass(frozen=True)
class Inverted:
    """What an inversion found.

    Attributes:
        ws: [1, num_ws, 512] the code.
        generator: draws it: the one that was asked for, or one tuned to the picture.
    """

    ws: Tensor
    generator: Generator


#: From an aligned crop to its code.
Inverter = Callable[[Image.Image], Inverted]


def editing_consistency(inverted: Inverted, invert: Inverter, edits: Sequence[AttributeEdit]) -> dict[str, float]:
    """Latent editing consistency (Tov et al., e4e, 2021, section 5.2): edit, draw, invert again, undo the edit.

    Args:
        inverted: a face's code.
        invert: the method that found it.
        edits: over which the mean is taken.

    Returns:
        Distances between the code and the one that comes back: ``lec``, the root mean square over all coordinates in
        standard deviations of w; ``lec_raw``, the Euclidean norm in W+; ``lec_unedited``, as ``lec`` without an edit.
    """
    pairs = [(edit, AttributeEdit(edit.boundary, -edit.alpha, edit.resolutions)) for edit in edits]
    drifts = [_round_trip(inverted, invert, [edit], [undo]) for edit, undo in pairs]
    scale = inverted.generator.w_std.cpu()
    found = {"lec_unedited": _in_deviations(_round_trip(inverted, invert, [], []), scale)}
    if drifts:
        found["lec"] = statistics.fmean(_in_deviations(drift, scale) for drift in drifts)
        found["lec_raw"] = statistics.fmean(float(drift.norm()) for drift in drifts)
    return found


@torch.no_grad()
def _round_trip(
    inverted: Inverted, invert: Inverter, edits: Sequence[AttributeEdit], undo: Sequence[AttributeEdit]
) -> Tensor:
    """By how much [1, num_ws, 512] a code differs after being edited, drawn, found again and edited back."""
    ws = inverted.ws
    for edit in edits:
        ws = edit.apply(ws, inverted.generator)
    back = invert(draw(inverted.generator, ws)[0]).ws
    for edit in undo:
        back = edit.apply(back, inverted.generator)
    return back.cpu() - inverted.ws.cpu()


def _in_deviations(drift: Tensor, scale: Tensor) -> float:
    return float((drift / scale).square().mean().sqrt())
