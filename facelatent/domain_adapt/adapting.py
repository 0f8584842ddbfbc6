"""One artwork in, a generator of that art out."""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from facelatent.domain_adapt.descent import Descent, follow
from facelatent.domain_adapt.difa_terms import DifaTerms
from facelatent.domain_adapt.guidance import Guidance, VggGuidance
from facelatent.domain_adapt.pool import class_of, source_pool
from facelatent.domain_adapt.reference import Reference, prepare_reference
from facelatent.domain_adapt.settings import AdaptSettings
from facelatent.domain_adapt.style import Style
from facelatent.domain_adapt.terms import Terms
from facelatent.domain_adapt.text import DescribesTexts, text_direction
from facelatent.domain_adapt.vgg_terms import GRAPHIC, VggTerms, suited
from facelatent.errors import FacelatentError
from facelatent.images import save_image, to_images
from facelatent.inversion import Encoder, default_encoder
from facelatent.render import grid
from facelatent.stylegan_ops import Generator

#: The checkpoint in the working folder.
CHECKPOINT = "progress.safetensors"
#: Steps between checkpoints, and between previews.
SAVE_EVERY, PREVIEW_EVERY = 10, 50
#: People on a preview: seeds that no pool has.
_SHOWN = (1001, 1002, 1003, 1004)
_SHOWN_SIDE = 256


def adapt(
    generator: Generator,
    reference: Image.Image | Reference | Sequence[Image.Image | Reference] | None,
    settings: AdaptSettings | None = None,
    guidance: VggGuidance | Sequence[Guidance] | None = None,
    encoder: Encoder | None = None,
    texts: tuple[str, str] | None = None,
    work: Path | None = None,
    name: str = "style",
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Style:
    """Adapt a generator to a reference's art.

    Args:
        generator: the source; it stays as it is.
        reference: one artwork or several; None where ``texts`` say what is wanted.
        settings: :data:`~facelatent.domain_adapt.VGG` if None; :data:`~facelatent.domain_adapt.DIFA` for CLIP, or
            :data:`~facelatent.domain_adapt.NADA`, its global direction alone.
        guidance: VGG16 for its own terms; for DIFA's always given: CLIP networks, whose weights a user brings.
        encoder: for DIFA's consistency term: an encoder for ``generator``, by default the one that comes with it.
        texts: what the source domain and the wanted one are called, for CLIP.
        work: a folder for what a stopped run goes on from, and for a preview every 50 steps.
        name: of the style.
        progress: show a progress bar.
        say: gets a line on which look is taken, on what is left out, and on where previews are.

    Returns:
        The style; its report has the settings, the losses, seconds and peak memory.

    Raises:
        FacelatentError: a reference is too small, a loss is no longer finite, memory is short, or guidance and what
            is asked of it do not fit.
        AssetUnavailable: VGG16's or dlib's weights cannot be fetched.
        InvalidFile: ``work`` holds something damaged, or of another adaptation.
    """
    began = time.monotonic()
    chosen = settings or AdaptSettings()
    references = _prepared(reference)
    _check(chosen, references, guidance, texts)
    if chosen.terms == "vgg" and chosen.vgg is None:
        chosen = replace(chosen, vgg=suited(references))
        if chosen.vgg == GRAPHIC:
            say("the reference is of flat areas and lines: adapting with --look graphic")
    terms = _terms(generator, references, chosen, guidance, encoder, texts, progress, say)
    record = _record(generator, references, chosen, texts)
    descent = Descent(generator, terms, chosen, record)
    checkpoint = work / CHECKPOINT if work else None
    if checkpoint is not None and checkpoint.exists():
        descent.load(checkpoint)
        say(f"going on from step {descent.step} of {chosen.steps} ({checkpoint})")
    previews = _Previews(generator, descent, references, terms, work, say)
    with tqdm(total=chosen.steps, initial=descent.step, desc="adapting", unit="step", disable=not progress) as bar:

        def tick(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        follow(descent, checkpoint, SAVE_EVERY, previews.draw, PREVIEW_EVERY, tick)
    report = {
        **terms.described(),
        "steps": descent.step,
        "losses": {key: round(value, 4) for key, value in descent.last.items()},
        "aligned": [one.aligned for one in references],
        "texts": texts,
        "seconds": round(time.monotonic() - began, 1),
        "peak_megabytes": _peak_megabytes(generator.device),
        "settings": asdict(chosen),
    }
    return Style.from_deltas(generator, descent.deltas(), report=report, name=name)


def _prepared(given: Image.Image | Reference | Sequence[Image.Image | Reference] | None) -> list[Reference]:
    if given is None:
        return []
    several = [given] if isinstance(given, (Image.Image, Reference)) else list(given)
    return [one if isinstance(one, Reference) else prepare_reference(one) for one in several]


def _check(
    settings: AdaptSettings,
    references: list[Reference],
    guidance: VggGuidance | Sequence[Guidance] | None,
    texts: tuple[str, str] | None,
) -> None:
    if settings.terms == "difa" and not guidance:
        raise FacelatentError("CLIP's weights are not given: name them with --clip FILE, or leave CLIP for VGG16")
    if texts is not None and settings.terms == "vgg":
        raise FacelatentError("a text needs CLIP, whose weights are yours to bring: --clip FILE or --clip openai")
    if not references and texts is None:
        raise FacelatentError("nothing to adapt to: give a reference picture, or with CLIP --text SOURCE TARGET")


def _terms(
    generator: Generator,
    references: list[Reference],
    settings: AdaptSettings,
    guidance: VggGuidance | Sequence[Guidance] | None,
    encoder: Encoder | None,
    texts: tuple[str, str] | None,
    progress: bool,
    say: Callable[[str], None],
) -> Terms:
    if settings.terms == "vgg":
        assert guidance is None or isinstance(guidance, VggGuidance)
        assert settings.vgg is not None
        pool = source_pool(generator, settings.people, settings.psi, settings.seed, progress)
        seeing = guidance or VggGuidance(device=generator.device)
        return VggTerms(seeing, references, pool, settings.batch, settings.seed, settings.vgg)
    assert guidance is not None
    networks = [guidance] if isinstance(guidance, VggGuidance) else list(guidance)
    holder = (encoder or default_encoder(generator)) if settings.difa.consistency else None
    if holder is None and settings.difa.consistency:
        say(f"no encoder for {generator.name}: people are not held consistent; give one with --encoder")
    if isinstance(holder, torch.nn.Module):
        holder.to(generator.device)
    directions = [text_direction(_reader(one), *texts) for one in networks] if texts else None
    return DifaTerms(
        networks,
        references,
        generator,
        holder,
        settings.steps,
        settings.batch,
        settings.seed,
        settings.difa,
        directions,
        progress,
    )


def _reader(guidance: Guidance) -> DescribesTexts:
    if not isinstance(guidance, DescribesTexts):
        raise FacelatentError(f"{guidance.name} reads no texts; --text needs CLIP")
    return guidance


def _record(
    generator: Generator, references: list[Reference], settings: AdaptSettings, texts: tuple[str, str] | None
) -> dict[str, Any]:
    """What two runs must agree in for one to go on where the other stopped; as JSON would give it back."""
    digests = [hashlib.sha256(one.image.cpu().numpy().tobytes()).hexdigest()[:16] for one in references]
    chosen = {**asdict(settings), "betas": list(settings.betas)}
    return {
        "generator": generator.fingerprint,
        "references": digests,
        "texts": list(texts) if texts else None,
        "settings": chosen,
    }


class _Previews:
    """Sheets of people by the source and by the adapted generator."""

    def __init__(
        self,
        generator: Generator,
        descent: Descent,
        references: list[Reference],
        terms: Terms,
        work: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self._descent, self._terms, self._work, self._say = descent, terms, work, say
        self._references = [to_images(one.image)[0] for one in references]
        self._ws = torch.empty(0)
        self._before = torch.empty(0)
        if work is not None:
            with torch.no_grad():
                codes = [generator.sample_w(seed, 0.7, class_of(generator, seed)) for seed in _SHOWN]
                self._ws = generator.broadcast(torch.cat(codes)).contiguous()
                self._before = torch.cat([generator.synthesis(code[None]) for code in self._ws])

    def draw(self, step: int) -> None:
        """Write the sheet of a step."""
        if self._work is None:
            return
        after: Tensor = self._descent.draw(self._ws)
        if isinstance(self._terms, DifaTerms):
            self._terms.previewed(self._before, after)
        rows = [to_images(self._before), to_images(after)]
        titles = ["source", "adapted"]
        if self._references:
            rows, titles = [self._references, *rows], ["reference", *titles]
        path = self._work / f"step-{step:04d}.jpg"
        save_image(grid(rows, None, _SHOWN_SIDE, titles), path)
        self._say(f"step {step}: loss {self._descent.history[-1]:.3f}, {path}")


def _peak_megabytes(device: torch.device) -> int:
    """Most memory that was held: the GPU's, or this process's."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) >> 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
