"""A direction from two lines of text: adapting without a reference, as StyleGAN-NADA did.

Gal et al., "StyleGAN-NADA: CLIP-Guided Domain Adaptation of Image Generators", 2021, equation 1.
"""

from __future__ import annotations

import html
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.errors import GuidanceUnavailable

#: Sentences that a description is put into; their mean says less about any one wording.
TEMPLATES = (
    "{}",
    "a {}",
    "the {}",
    "an image of a {}",
    "a picture of a {}",
    "a picture of the {}",
    "a face in the form of a {}",
    "a portrait, {}",
    "a portrait in the form of a {}",
    "a portrait of somebody as a {}",
    "the head of a person, {}",
    "a {} of a face",
    "a {} of a person",
    "a {} of a man",
    "a {} of a woman",
    "a {} of a child",
    "a {} showing a head and shoulders",
    "a close view of a {}",
    "a detailed {}",
    "a plain {}",
    "a large {}",
    "a small {}",
    "a bright {}",
    "a dark {}",
    "a fine {}",
    "a good {}",
    "a poor {}",
    "an old {}",
    "a new {}",
    "one {}",
    "this is a {}",
    "this is the {}",
    "here is a {} of somebody",
    "a scan of a {}",
    "a reproduction of a {}",
    "a cropped reproduction of a {}",
    "part of a {}",
    "a {} that hangs on a wall",
)


@runtime_checkable
class DescribesTexts(Protocol):
    """Guidance that reads."""

    def describe_texts(self, texts: list[str]) -> Tensor:
        """Unit embeddings [n, d] of lines of text."""
        ...


def cleaned_text(text: str) -> str:
    """A line as CLIP's own tokenizer expects it: mended Unicode, no HTML entities, single spaces.

    Raises:
        GuidanceUnavailable: ftfy, which the extra ``clip`` brings, is not installed.
    """
    try:
        import ftfy
    except ImportError as error:
        message = "texts need ftfy, which is not installed; run: pip install 'facelatent[clip]'"
        raise GuidanceUnavailable(message) from error
    fixed: str = ftfy.fix_text(text)
    return " ".join(html.unescape(html.unescape(fixed)).split())


def text_direction(guidance: DescribesTexts, source: str, target: str) -> Tensor:
    """The unit direction [d] from one description, such as ``photo``, to another, such as ``oil painting``.

    Raises:
        GuidanceUnavailable: a text is empty, both are the same, or ftfy is missing.
    """
    before, after = cleaned_text(source), cleaned_text(target)
    if not before or not after or before == after:
        raise GuidanceUnavailable(f"two different texts are needed, got {source!r} and {target!r}")
    found = [guidance.describe_texts([line.replace("{}", text) for line in TEMPLATES]) for text in (before, after)]
    return F.normalize(torch.mean(found[1] - found[0], 0), dim=0)
