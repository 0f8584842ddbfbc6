"""Invert many pictures and measure what came of each: the reconstruction, the edits, the codes' stability."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageChops
from tqdm import tqdm

from facelatent.editing import draw
from facelatent.errors import AssetUnavailable, FacelatentError
from facelatent.evaluation.cases import Case
from facelatent.evaluation.consistency import Inverter, editing_consistency
from facelatent.evaluation.edits import (
    EditEffect,
    EditSummary,
    Probe,
    edit_effects,
    own_effects,
    probe_edits,
    summarise_edits,
)
from facelatent.inversion import ArcFaceIdentity
from facelatent.inversion.evaluation import Summary, compare, summarise
from facelatent.render import grid
from facelatent.stylegan_ops import Generator

#: Side of a picture on the sheet.
_SIDE = 256
#: Metric by which the worst pictures come first, and what the difference on the sheet is multiplied by.
_SORTED_BY = "lpips_alex"
_MAGNIFIED = 4
#: Middle of the detail that a sheet shows at full resolution, as shares of the side: beside the eye on the left.
_DETAIL = (0.42, 0.48)


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured.

    Attributes:
        probes: edits that are tried; none if empty.
        consistency: whether to measure :func:`editing_consistency`: one more inversion for each edit, and one.
        arcface: another judge of identity.
        sheet_rows: how many of the worst pictures the sheet shows.
    """

    probes: Sequence[Probe] = ()
    consistency: bool = False
    arcface: ArcFaceIdentity | None = None
    sheet_rows: int = 12


@dataclass(frozen=True)
class PictureResult:
    """One picture.

    Attributes:
        name: of the case.
        metrics: see :data:`facelatent.inversion.evaluation.METRICS`; None where it could not be measured.
        edits: of the inverted face.
        generated_edits: the same edits of the code that drew the picture; empty for photos.
    """

    name: str
    metrics: Mapping[str, float | None]
    edits: Sequence[EditEffect] = ()
    generated_edits: Sequence[EditEffect] = ()


@dataclass
class Evaluation:
    """Everything that was measured.

    Attributes:
        pictures: one result each.
        failed: name and reason of each picture that has none.
        sheet: the worst pictures, worst first, beside what was found; None if all failed.
    """

    pictures: list[PictureResult] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    sheet: Image.Image | None = None

    def summary(self) -> dict[str, Summary]:
        """Mean, median and worst of each metric."""
        return summarise([picture.metrics for picture in self.pictures])

    def edit_summary(self, generated: Sequence[Sequence[EditEffect]] = ()) -> list[EditSummary]:
        """Means over pictures for each edit.

        Args:
            generated: what edits do to generated faces (:func:`generated_effects`), for photos: generated pictures
                are compared with themselves.
        """
        own = [picture.generated_edits for picture in self.pictures if picture.generated_edits]
        return summarise_edits([picture.edits for picture in self.pictures], own or generated, paired=bool(own))


@dataclass(frozen=True)
class _Row:
    """A picture's row on the sheet."""

    distance: float
    images: list[Image.Image]
    labels: list[str]


def evaluate_inversion(
    cases: Sequence[Case],
    generator: Generator,
    invert: Inverter,
    settings: EvaluationSettings | None = None,
    progress: bool = False,
) -> Evaluation:
    """Invert every picture and measure what came of it; pictures that fail are listed and do not stop the others.

    Args:
        cases: from :func:`generated_cases` or :func:`photo_cases`.
        generator: the one that inversion is for.
        invert: the method.
        settings: what to measure; the reconstruction alone by default.
        progress: show a progress bar.

    Raises:
        AssetUnavailable: weights that every picture needs cannot be fetched.
    """
    chosen = settings or EvaluationSettings()
    _warm_up(generator, chosen)
    result = Evaluation()
    rows: list[_Row] = []
    for case in tqdm(cases, desc="evaluating", unit="face", disable=not progress):
        try:
            picture, row = _evaluated(case, generator, invert, chosen)
        except AssetUnavailable:
            raise
        except FacelatentError as error:
            result.failed.append((case.name, str(error)))
            continue
        result.pictures.append(picture)
        # Only what the sheet will show is kept: a folder may hold thousands.
        rows = sorted([*rows, row], key=lambda row: -row.distance)[: chosen.sheet_rows]
    if rows:
        result.sheet = grid([row.images for row in rows], [row.labels for row in rows], _SIDE)
    return result


def _warm_up(generator: Generator, settings: EvaluationSettings) -> None:
    """Load networks and compile kernels, so that the first picture's seconds are like the others'."""
    mean = draw(generator, generator.broadcast(generator.w_avg[None]))[0]
    compare(mean, mean, settings.arcface, generator.device)


def _evaluated(
    case: Case, generator: Generator, invert: Inverter, settings: EvaluationSettings
) -> tuple[PictureResult, _Row]:
    source = case.load()
    began = time.perf_counter()
    inverted = invert(source.image)
    reconstruction = draw(inverted.generator, inverted.ws)[0]
    seconds = time.perf_counter() - began
    metrics = compare(source.image, reconstruction, settings.arcface, generator.device)
    if settings.consistency:
        edits = [edit for _, edit in probe_edits(settings.probes)]
        metrics |= editing_consistency(inverted, invert, edits)
    metrics["seconds"] = seconds
    effects, edited = edit_effects(source.image, inverted, settings.probes)
    picture = PictureResult(case.name, metrics, effects, own_effects(source, generator, settings.probes))
    images, labels = _shown(case, source.image, reconstruction, metrics)
    labels += [f"{e.attribute} {e.alpha:+g}: {_cell(e.change, '+.2f')}, id {_cell(e.identity)}" for e in effects]
    return picture, _Row(metrics[_SORTED_BY] or 0.0, images + edited, labels)


def _shown(
    case: Case, source: Image.Image, reconstruction: Image.Image, metrics: Mapping[str, float | None]
) -> tuple[list[Image.Image], list[str]]:
    """Source, reconstruction and their difference, and a detail of both at full resolution; with labels."""
    difference = ImageChops.difference(source, reconstruction).point([min(v * _MAGNIFIED, 255) for v in range(256)] * 3)
    images = [image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS) for image in (source, reconstruction, difference)]
    labels = [
        case.label,
        f"LPIPS {_cell(metrics['lpips_alex'])}, {_cell(metrics['psnr'], '.1f')} dB",
        f"difference x{_MAGNIFIED}, id {_cell(metrics['identity'])}",
    ]
    if source.width > _SIDE:
        images += [_detail(source), _detail(reconstruction)]
        labels += ["source, 100 %", f"100 %, LPIPS {_cell(metrics['full_lpips_alex'])}"]
    return images, labels


def _detail(image: Image.Image) -> Image.Image:
    left, top = (round(place * image.width) - _SIDE // 2 for place in _DETAIL)
    return image.crop((left, top, left + _SIDE, top + _SIDE))


def _cell(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)
