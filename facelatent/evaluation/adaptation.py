"""What a style is worth: how near the reference it brings faces, and what of the people it leaves.

``docs/styles.md`` says what each number means. Everything is measured on 8-bit pictures of the same people: drawn by
the source, in the style, in other styles, and the source's with the reference's palette.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from facelatent.colours import palette_distance, with_palette
from facelatent.domain_adapt import Style
from facelatent.editing import draw
from facelatent.errors import NoFaceFound
from facelatent.evaluation.consistency import Inverted
from facelatent.evaluation.edits import EditEffect, EditSummary, Probe, edit_effects, probe_edits, summarise_edits
from facelatent.faces import find_faces, steady_landmarks
from facelatent.images import open_image, to_tensor
from facelatent.inversion import DlibIdentity, aligned_crop
from facelatent.inversion.evaluation import Metric
from facelatent.inversion.identity import frames_in
from facelatent.inversion.perceptual import Net, load_lpips
from facelatent.render import grid
from facelatent.stylegan_ops import Generator

#: Side at which networks look at pictures.
_SIDE = 256
#: Stages of VGG16 and of AlexNet whose features say what a picture is painted like; the later ones say of what.
_STYLE_STAGES: dict[Net, int] = {"vgg": 4, "alex": 3}
#: The stage of AlexNet whose positions are compared as sets: 961 positions of 192 features.
_PATCH_STAGE = 1
#: Side in pixels of the tiles over which a lattice would repeat.
_TILE = 4
#: Edits on the sheet: strength +2, as far as :data:`~facelatent.evaluation.edits.ALPHAS` goes.
_SHOWN_ALPHA = 2.0

#: Seeds of people of many kinds at psi 0.8, chosen by eye; no training saw them. Among the first eight are old and
#: young ones, men and women, two with glasses and two in profile.
PEOPLE = tuple(2_000_000 + seed for seed in (3, 4, 6, 56, 52, 120, 92, 81, 11, 13, 16, 31, 40, 85, 7, 98))

#: In the order of tables.
METRICS = (
    Metric("style_vgg", "VGG16 feature moments to the reference"),
    Metric("style_alex", "AlexNet feature moments to the reference"),
    Metric("palette", "palette distance to the reference (Lab)"),
    Metric("patches", "Frechet distance of patches (AlexNet)"),
    Metric("lpips_reference", "LPIPS (AlexNet) to the reference"),
    Metric("diversity", "pairwise LPIPS, share of the sources'", True),
    Metric("identity", "identity distance to the own source"),
    Metric("nearest", "nearest source is the own one, share", True),
    Metric("landmarks", "landmark shift, % of the eye distance"),
    Metric("landmarks_worst", "the same, worst face"),
    Metric("faces", "faces that dlib finds, share", True),
    Metric("detail", "finest detail, share of the sources'"),
    Metric("lattice", "lattice of 4 px, grey levels"),
    Metric("seconds", "seconds a picture"),
)


@dataclass(frozen=True)
class Candidate:
    """One way to draw people.

    Attributes:
        name: what tables call it.
        draw: codes [1, num_ws, 512] -> a picture of the generator's resolution.
    """

    name: str
    draw: Callable[[Tensor], Image.Image]


@dataclass(frozen=True)
class AdaptationSettings:
    """What is measured.

    Attributes:
        strengths: of the style, each a candidate of its own.
        others: styles to compare with, at strength 1, by name.
        probes: edits that are tried in the style; none if empty.
        edited_faces: on how many people.
        sheet_rows: how many people the sheet shows.
    """

    strengths: Sequence[float] = (0.8, 1.0)
    others: Mapping[str, Style] = field(default_factory=dict)
    probes: Sequence[Probe] = ()
    edited_faces: int = 8
    sheet_rows: int = 8


@dataclass(frozen=True)
class Adaptation:
    """Everything that was measured.

    Attributes:
        metrics: by candidate, of :data:`METRICS`; None where it could not be measured.
        edits: what edits do in the style, against what they do to the same people's sources.
        strangers: by candidate, the people (by their place) whose nearest source is somebody else.
        sheet: the reference, and the people in every candidate and edited in the style.
    """

    metrics: dict[str, dict[str, float | None]]
    edits: list[EditSummary]
    strangers: dict[str, list[int]]
    sheet: Image.Image


def reference_picture(path: str | Path) -> tuple[Image.Image, bool]:
    """A reference as a square of 256 px, and whether a face was found to align it by; else it is its middle.

    Raises:
        UnreadableImage: as :func:`facelatent.images.open_image`.
    """
    image = open_image(path)
    try:
        return aligned_crop(image, _SIDE, source=str(path)).image, True
    except NoFaceFound:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        middle = image.crop((left, top, left + side, top + side))
        return middle.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), False


def evaluate_adaptation(
    generator: Generator,
    style: Style,
    reference: Image.Image,
    people: Mapping[str, Tensor],
    settings: AdaptationSettings | None = None,
    progress: bool = False,
) -> Adaptation:
    """Measure a style on people, beside two baselines: the reference's palette, and other styles.

    Args:
        generator: the source.
        style: what is measured.
        reference: square; see :func:`reference_picture`.
        people: codes [1, num_ws, 512] by name, two or more.
        settings: what to measure.
        progress: show a progress bar.

    Raises:
        IncompatibleLatent: a style belongs to another generator.
        ValueError: fewer than two people.
    """
    if len(people) < 2:
        raise ValueError(f"diversity is that of two people or more, not of {len(people)}")
    chosen = settings or AdaptationSettings()
    candidates = _candidates(generator, style, reference, chosen)
    codes = list(people.values())
    with tqdm(total=len(candidates) * len(codes), desc="drawing", unit="face", disable=not progress) as bar:
        drawn = {one.name: _drawn(one, codes, bar.update) for one in candidates}
    judge = _Judge(reference, drawn[candidates[0].name].pictures, generator.device)
    metrics, strangers = {}, {}
    for name, pictures in tqdm(drawn.items(), desc="measuring", unit="way", disable=not progress):
        found, strangers[name] = judge.measured(pictures.pictures)
        metrics[name] = {**found, "seconds": pictures.seconds}
    adapted = style.applied(generator)
    own = [_effects(generator, ws, chosen.probes) for ws in codes[: chosen.edited_faces]]
    styled = [_effects(adapted, ws, chosen.probes) for ws in codes[: chosen.edited_faces]]
    edits = summarise_edits([effects for effects, _ in styled], [effects for effects, _ in own], paired=True)
    sheet = _sheet(reference, people, drawn, [pictures for _, pictures in styled], chosen)
    return Adaptation(metrics, edits, strangers, sheet)


def adaptation_table(metrics: Mapping[str, Mapping[str, float | None]]) -> str:
    """Candidates side by side as aligned text, one line a metric."""
    width = max(10, *(len(name) + 2 for name in metrics))
    lines = [f"{'':<42}" + "".join(f"{name:>{width}}" for name in metrics)]
    for metric in METRICS:
        cells = (found.get(metric.name) for found in metrics.values())
        lines.append(f"{metric.label:<42}" + "".join(f"{_cell(value):>{width}}" for value in cells))
    return "\n".join(lines)


def _candidates(
    generator: Generator, style: Style, reference: Image.Image, settings: AdaptationSettings
) -> list[Candidate]:
    def by(drawing: Generator) -> Callable[[Tensor], Image.Image]:
        return lambda ws: draw(drawing, ws)[0]

    ways = {f"{style.name} {strength:g}": style.applied(generator, strength) for strength in settings.strengths}
    ways |= {name: other.applied(generator) for name, other in settings.others.items()}
    return [
        Candidate("source", by(generator)),
        Candidate("palette", lambda ws: with_palette(draw(generator, ws)[0], reference)),
        *(Candidate(name, by(drawing)) for name, drawing in ways.items()),
    ]


@dataclass(frozen=True)
class _Drawn:
    """Pictures of all people, and seconds that one took: the median, since the first waits for kernels."""

    pictures: list[Image.Image]
    seconds: float


def _drawn(candidate: Candidate, codes: Sequence[Tensor], done: Callable[[], object]) -> _Drawn:
    pictures, times = [], []
    for ws in codes:
        began = time.perf_counter()
        pictures.append(candidate.draw(ws))
        times.append(time.perf_counter() - began)
        done()
    return _Drawn(pictures, statistics.median(times))


class _Judge:
    """Compares pictures with the reference, and with the sources of the same people.

    Args:
        reference: square.
        sources: pictures of the people as the source generator draws them.
        device: where networks run.
    """

    def __init__(self, reference: Image.Image, sources: Sequence[Image.Image], device: torch.device) -> None:
        self._device = device
        self._reference = reference
        small = _small([reference]).to(device)
        self._moments = {net: _moments(small, net) for net in _STYLE_STAGES}
        self._patches = _patches(small)[0]
        self._target = load_lpips("alex").to(device).normalised(small)
        images = _small(sources).to(device)
        self._identity = DlibIdentity(device)
        self._frames = frames_in(images)
        self._people = self._identity.embed(images, self._frames)
        self._spread = self._pairwise(images)
        self._faces = [_face(picture) for picture in sources]
        self._detail = statistics.fmean(map(_detail, sources))

    @torch.no_grad()
    def measured(self, pictures: Sequence[Image.Image]) -> tuple[dict[str, float | None], list[int]]:
        """What pictures of all people are like, and who is taken for somebody else."""
        images = _small(pictures).to(self._device)
        lpips = load_lpips("alex")
        embeddings = self._identity.embed(images, self._frames)
        distances = torch.cdist(embeddings, self._people)
        strangers = [at for at, nearest in enumerate(distances.argmin(1).tolist()) if at != nearest]
        shifts = [
            _shift(picture, *face) for picture, face in zip(pictures, self._faces, strict=True) if face is not None
        ]
        patches = [_frechet(one, self._patches) for one in _patches(images)]
        return {
            **{f"style_{net}": self._style_distance(images, net) for net in _STYLE_STAGES},
            "palette": statistics.fmean(palette_distance(picture, self._reference) for picture in pictures),
            "patches": statistics.fmean(patches),
            "lpips_reference": float(lpips.distance(lpips.normalised(images), self._target).mean()),
            "diversity": self._pairwise(images) / self._spread,
            "identity": float(distances.diagonal().mean()),
            "nearest": 1 - len(strangers) / len(pictures),
            "landmarks": statistics.fmean(shifts) if shifts else None,
            "landmarks_worst": max(shifts, default=None),
            "faces": statistics.fmean(bool(find_faces(_shrunk(picture))) for picture in pictures),
            "detail": statistics.fmean(map(_detail, pictures)) / self._detail,
            "lattice": statistics.fmean(map(_lattice, pictures)),
        }, strangers

    def _style_distance(self, images: Tensor, net: Net) -> float:
        """Mean relative difference of feature means and deviations from the reference's, over stages."""
        pairs = zip(_moments(images, net), self._moments[net], strict=True)
        return statistics.fmean(float((a - b).abs().sum(1).mean() / b.abs().sum()) for a, b in pairs)

    @torch.no_grad()
    def _pairwise(self, images: Tensor) -> float:
        """Mean LPIPS (AlexNet) of all pairs."""
        lpips = load_lpips("alex").to(self._device)
        features = [lpips.normalised(image[None]) for image in images]
        return statistics.fmean(float(lpips.distance(a, b)) for a, b in itertools.combinations(features, 2))


def _small(pictures: Sequence[Image.Image]) -> Tensor:
    """[n, 3, 256, 256] in [-1, 1], averaged by area, 8 bits."""
    return to_tensor([_shrunk(picture) for picture in pictures])


def _shrunk(picture: Image.Image) -> Image.Image:
    return picture.resize((_SIDE, _SIDE), Image.Resampling.BOX)


@torch.no_grad()
def _moments(images: Tensor, net: Net) -> list[Tensor]:
    """Of each stage the means and standard deviations of its features: [n, 2 channels]."""
    maps = load_lpips(net).to(images.device).features(images, _STYLE_STAGES[net])
    return [torch.cat([x.mean((2, 3)), x.std((2, 3))], 1) for x in maps]


@torch.no_grad()
def _patches(images: Tensor) -> list[np.ndarray]:
    """Features [positions, channels] of each picture, float64."""
    maps = load_lpips("alex").to(images.device).features(images, _PATCH_STAGE + 1)[-1]
    return [one.flatten(1).T.double().cpu().numpy() for one in maps]


def _frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of two sets of features [n, c], as if normally distributed (Heusel et al., 2017, equation 6)."""
    a, b = np.cov(first.T), np.cov(second.T)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return float(np.square(first.mean(0) - second.mean(0)).sum() + np.trace(a) + np.trace(b) - 2 * cross)


def _face(picture: Image.Image) -> tuple[tuple[float, float, float, float], np.ndarray] | None:
    """Box of the best face, in a picture's pixels, and its landmarks [68, 2]; None if there is none."""
    faces = find_faces(_shrunk(picture))
    if not faces:
        return None
    left, top, right, bottom = (edge * picture.width / _SIDE for edge in faces[0].box)
    box = (left, top, right, bottom)
    return box, steady_landmarks(np.asarray(picture), box)


def _shift(picture: Image.Image, box: tuple[float, float, float, float], landmarks: np.ndarray) -> float:
    """How far landmarks have moved on average, in per cent of the distance of the eyes' middles."""
    eyes = landmarks[36:42].mean(0) - landmarks[42:48].mean(0)
    moved = np.linalg.norm(steady_landmarks(np.asarray(picture), box) - landmarks, axis=1).mean()
    return float(100 * moved / np.linalg.norm(eyes))


def _grey(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L"), np.float64)


def _detail(picture: Image.Image) -> float:
    """Root mean square of the finest diagonal detail: the diagonal Haar coefficients of 2 x 2 pixels."""
    grey = _grey(picture)
    corners = grey[::2, ::2] - grey[1::2, ::2] - grey[::2, 1::2] + grey[1::2, 1::2]
    return float(np.sqrt(np.square(corners / 2).mean()))


def _lattice(picture: Image.Image) -> float:
    """How much pixels differ by their place in tiles of 4 x 4, in grey levels, light and shade left out."""
    grey = torch.from_numpy(_grey(picture))[None, None]
    smooth = F.avg_pool2d(F.pad(grey, [2, 1, 2, 1], mode="replicate"), _TILE, 1)
    tiles = (grey - smooth)[0, 0].unfold(0, _TILE, _TILE).unfold(1, _TILE, _TILE)
    return float(tiles.mean((0, 1)).std(correction=0))


def _effects(
    generator: Generator, ws: Tensor, probes: Sequence[Probe]
) -> tuple[list[EditEffect], dict[str, Image.Image]]:
    """What edits do to one face, and its pictures at :data:`_SHOWN_ALPHA` by attribute."""
    if not probes:
        return [], {}
    plain = draw(generator, ws)[0]
    effects, pictures = edit_effects(plain, Inverted(ws, generator), probes)
    shown = zip(probe_edits(probes), pictures, strict=True)
    return effects, {edit.boundary.attribute: picture for (_, edit), picture in shown if edit.alpha == _SHOWN_ALPHA}


def _sheet(
    reference: Image.Image,
    people: Mapping[str, Tensor],
    drawn: Mapping[str, _Drawn],
    edited: Sequence[Mapping[str, Image.Image]],
    settings: AdaptationSettings,
) -> Image.Image:
    rows, labels = [[reference]], [["reference"]]
    for at, person in enumerate(list(people)[: settings.sheet_rows]):
        pictures = {name: one.pictures[at] for name, one in drawn.items()}
        if at < len(edited):
            pictures |= {f"+ {attribute}": picture for attribute, picture in edited[at].items()}
        rows.append([_shrunk(picture) for picture in pictures.values()])
        labels.append([f"{person}: {name}" if name == "source" else name for name in pictures])
    return grid(rows, labels, _SIDE)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
