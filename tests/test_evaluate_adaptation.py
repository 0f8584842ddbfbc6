"""Measuring styles: colours, features, landmarks and lattices on made-up pictures, and whole evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_parts import run
from conftest import make_tiny_generator
from PIL import Image
from torch import Tensor

from facelatent.colours import lab, palette_distance, srgb, with_palette
from facelatent.domain_adapt import Style
from facelatent.editing import draw
from facelatent.evaluation import adaptation
from facelatent.evaluation.adaptation import (
    METRICS,
    PEOPLE,
    AdaptationSettings,
    adaptation_table,
    evaluate_adaptation,
    reference_picture,
)
from facelatent.stylegan_ops import Generator, MobileStyleGAN


def noise(seed: int = 0, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


# Colours


def test_lab_and_back() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (1000, 3)).astype(np.uint8)
    assert np.array_equal(srgb(lab(colours)), colours)
    assert np.allclose(lab(np.array([255, 255, 255])), [100, 0, 0], atol=0.02)
    assert np.allclose(lab(np.array([255, 0, 0])), [53.2, 80.1, 67.2], atol=0.2)
    assert srgb(np.array([50.0, 200, 0])).max() == 255  # beyond what screens show


def test_palette_distance() -> None:
    grey, lighter = (Image.new("RGB", (32, 32), (level,) * 3) for level in (119, 128))
    step = lab(np.array([128, 128, 128]))[0] - lab(np.array([119, 119, 119]))[0]
    assert palette_distance(grey, lighter) == pytest.approx(step, rel=1e-3)
    picture = noise()
    shuffled = Image.fromarray(
        np.random.default_rng(1).permutation(np.asarray(picture).reshape(-1, 3)).reshape(64, 64, 3)
    )
    assert palette_distance(picture, shuffled) < 1e-9
    assert palette_distance(picture, grey) > 20


def test_with_palette() -> None:
    warm = Image.fromarray((np.asarray(noise(1)) * [0.6, 0.5, 0.2] + [60, 40, 20]).astype(np.uint8))
    dull = Image.fromarray((np.asarray(noise(2)) * 0.3 + 80).astype(np.uint8))
    painted = with_palette(dull, warm)
    assert palette_distance(painted, warm) < 0.3 * palette_distance(dull, warm)
    means, spreads = zip(
        *((x.mean((0, 1)), x.std((0, 1))) for x in (lab(np.asarray(p)) for p in (painted, warm))), strict=True
    )
    assert np.allclose(*means, atol=1.5)
    assert np.allclose(*spreads, rtol=0.1)
    flat = with_palette(Image.new("RGB", (8, 8), "grey"), warm)  # of no spread at all
    assert np.isfinite(np.asarray(flat)).all()


# Measures


def test_lattice_and_detail() -> None:
    y, x = np.mgrid[:64, :64]
    smooth = 100 + x + y / 2
    dots = smooth + 8 * ((x % 4 == 1) & (y % 4 == 2))
    checks = smooth + 4 * (-1.0) ** (x + y)
    pictures = [Image.fromarray(np.stack([one.round()] * 3, -1).astype(np.uint8)) for one in (smooth, dots, checks)]
    plain, dotted, checked = (adaptation._lattice(one) for one in pictures)
    assert plain < 0.5 < 1.5 < min(dotted, checked)
    assert adaptation._detail(pictures[2]) > 7 > 2 > adaptation._detail(pictures[0])
    scattered = Image.fromarray(np.where(np.random.default_rng(0).random((64, 64)) < 1 / 16, 30, 0).astype(np.uint8))
    assert adaptation._lattice(scattered) < 3 * plain + 2  # grain is no lattice


def test_frechet() -> None:
    random = np.random.default_rng(0)
    a = random.standard_normal((4000, 5))
    assert adaptation._frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert adaptation._frechet(a, a + 2) == pytest.approx(20, rel=1e-3)
    assert adaptation._frechet(a, 3 * a) == pytest.approx(
        4 * np.trace(np.cov(a.T)) + 4 * np.square(a.mean(0)).sum(), rel=1e-3
    )


def test_shift_counts_in_eye_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    landmarks = np.random.default_rng(0).random((68, 2)) * 10
    landmarks[36:42], landmarks[42:48] = [10, 20], [60, 20]
    monkeypatch.setattr(adaptation, "steady_landmarks", lambda pixels, box: landmarks + np.array([3, 4]))
    assert adaptation._shift(noise(), (0, 0, 1, 1), landmarks) == pytest.approx(10)


def test_table_has_a_line_for_every_metric() -> None:
    measured: dict[str, float | None] = {metric.name: 0.5 for metric in METRICS}
    lines = adaptation_table({"source": measured, "mona 0.8": {**measured, "landmarks": None}}).splitlines()
    assert len(lines) == 1 + len(METRICS)
    assert lines[0].split() == ["source", "mona", "0.8"]
    assert len({len(line) for line in lines}) == 1
    assert next(line for line in lines if line.startswith("landmark shift")).endswith(" -")


def test_people_are_different() -> None:
    assert len(set(PEOPLE)) == len(PEOPLE) == 16


# Whole evaluations


@pytest.fixture
def people(tiny_generator: MobileStyleGAN) -> dict[str, Tensor]:
    with torch.no_grad():
        return {str(seed): tiny_generator.broadcast(tiny_generator.sample_w(seed)).contiguous() for seed in range(3)}


@pytest.mark.assets
def test_what_each_number_says(tiny_generator: MobileStyleGAN, people: dict[str, Tensor]) -> None:
    """A style that does nothing, one that tints, and one that makes everybody alike."""
    weights = tiny_generator.state_dict()
    tint = torch.zeros(12).index_fill(0, torch.tensor([0, 1]), 0.8)
    nothing, tinted, alike = (
        Style.from_deltas(tiny_generator, deltas, 0, name=name)
        for name, deltas in (
            ("nothing", {"to_img_bias": torch.zeros(12)}),
            ("tinted", {"to_img_bias": tint}),
            ("alike", {"to_img_weight": -weights["to_img_weight"]}),
        )
    )
    reference = draw(tinted.applied(tiny_generator), people["0"])[0]
    settings = AdaptationSettings((1.0,), {"nothing": nothing, "alike": alike})
    result = evaluate_adaptation(tiny_generator, tinted, reference, people, settings)
    assert list(result.metrics) == ["source", "palette", "tinted 1", "nothing", "alike"]
    source, palette, tint_, same, one = result.metrics.values()
    for name in ("style_vgg", "style_alex", "palette", "patches", "lpips_reference"):
        assert 0 <= tint_[name] < source[name], name
        assert same[name] == pytest.approx(source[name], rel=0.02), name
    assert palette["palette"] < source["palette"]
    assert source["diversity"] == source["nearest"] == source["detail"] == 1
    assert source["identity"] == pytest.approx(0, abs=1e-3)
    assert same["diversity"] == pytest.approx(1, rel=0.01)
    assert one["diversity"] < 0.05
    assert one["nearest"] < 1
    assert one["nearest"] == 1 - len(result.strangers["alike"]) / 3
    assert tint_["identity"] > 0.01
    assert source["landmarks"] is None and source["faces"] == 0  # of a tiny generator's pictures
    assert result.edits == []
    # The reference, and a row for each person.
    assert result.sheet.height > 4 * 256
    with pytest.raises(ValueError, match="two people"):
        evaluate_adaptation(tiny_generator, tinted, reference, {"0": people["0"]})


@pytest.mark.assets
def test_on_the_command_line(tmp_path: Path, tiny: tuple[str, ...], tiny_generator: MobileStyleGAN) -> None:
    style = Style.from_deltas(tiny_generator, {"to_img_bias": torch.full((12,), 0.2)}, 0, {"steps": 3}, "mona")
    style.save(tmp_path / "mona.safetensors")
    noise(3).save(tmp_path / "art.png")
    given = ("--style", tmp_path / "mona.safetensors", "--reference", tmp_path / "art.png", *tiny)
    result = run(
        "evaluate", "adaptation", *given, "--other", tmp_path / "mona.safetensors", "--seed", "1-2", "-o", tmp_path
    )
    assert result.exit_code == 0, result.output
    assert "its middle is compared with" in result.stderr
    assert "no edits are tried" in result.stderr  # of another W space than the shipped boundaries
    assert "mona 0.8    mona 1" in result.stdout
    record = json.loads((tmp_path / "adaptation.json").read_text())
    assert list(record["metrics"]) == ["source", "palette", "mona 0.8", "mona 1", "mona"]
    assert record["style"]["steps"] == 3 and record["seeds"] == [1, 2]
    assert Image.open(tmp_path / "adaptation.jpg").width > 5 * 256


def test_misused(tmp_path: Path, tiny: tuple[str, ...], tiny_generator: MobileStyleGAN) -> None:
    noise().save(tmp_path / "art.png")
    path = tmp_path / "mona.safetensors"
    Style.from_deltas(make_tiny_generator(seed=1), {"to_img_bias": torch.ones(12)}, 0).save(path)
    assert "two people" in run("evaluate", "adaptation", "--style", path, "--reference", path, "--seed", "1").output
    result = run("evaluate", "adaptation", "--style", tmp_path / "art.png", "--reference", tmp_path / "art.png", *tiny)
    assert result.exit_code == 1 and "not a facelatent safetensors file" in result.output


def test_references_without_a_face_are_cut_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asset: Callable[[str], Path]
) -> None:
    monkeypatch.setattr("facelatent.inversion.alignment.find_faces", lambda *arguments, **options: [])
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste("blue", (20, 0, 40, 20))
    wide.save(tmp_path / "art.png")
    picture, aligned = reference_picture(tmp_path / "art.png")
    assert not aligned
    assert picture.size == (256, 256)
    assert np.asarray(picture)[..., 2].min() > 200


@pytest.mark.assets
@pytest.mark.slow
def test_people_stay_where_only_colours_change(mobile: Generator) -> None:
    delta = torch.zeros(12).index_fill(0, torch.tensor([2]), -0.4)
    yellow = Style.from_deltas(mobile, {"to_img_bias": delta}, 0, name="yellow")
    with torch.no_grad():
        people = {str(seed): mobile.broadcast(mobile.sample_w(seed, 0.8)).contiguous() for seed in PEOPLE[:2]}
    reference = draw(yellow.applied(mobile), people[str(PEOPLE[0])])[0].resize((256, 256))
    found = evaluate_adaptation(mobile, yellow, reference, people, AdaptationSettings((1.0,))).metrics["yellow 1"]
    assert found["faces"] == found["nearest"] == 1
    assert found["landmarks"] < 2
    assert 0.75 < found["diversity"] < 1.25
    assert found["lattice"] < 0.3
