"""Boundaries: their files, the shipped ones, fitting them, scoring samples for them, and moving along them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import make_tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facelatent.boundaries import (
    Boundary,
    ScoredCodes,
    Scorer,
    edit,
    edit_layers,
    fit_boundary,
    load_boundary,
    loading,
    make_shards,
    read_scores,
    sample_scores,
    sampling,
    shipped_boundaries,
)
from facelatent.cli import main
from facelatent.editing import AttributeEdit, apply_edits
from facelatent.errors import IncompatibleLatent, InvalidFile, UnknownAttribute
from facelatent.faces import Face
from facelatent.files import save_tensors
from facelatent.latent import Latent
from facelatent.processes import Share
from facelatent.stylegan_ops import Generator, MobileStyleGAN


def unit(seed: int, size: int = 512) -> Tensor:
    vector = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return vector / vector.norm()


def a_boundary(generator: Generator | None = None, **changes: object) -> Boundary:
    made = Boundary(
        "smile",
        unit(0),
        intercept=-0.25,
        std=1.5,
        resolutions=(4, 32),
        generator=generator.name if generator else "g",
        fingerprint=generator.fingerprint if generator else "f",
        report={"samples": 5000, "accuracy_held_out": 0.96, "scorer": "emotion"},
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


# Files


@pytest.mark.parametrize("resolutions", [(4, 32), None])
def test_round_trip(tmp_path: Path, resolutions: tuple[int, int] | None) -> None:
    made = a_boundary(resolutions=resolutions)
    path = tmp_path / "smile.boundary.safetensors"
    made.save(path)
    read = Boundary.load(path)
    assert torch.equal(read.normal, made.normal)
    assert dataclasses.replace(read, normal=made.normal) == made
    assert dataclasses.replace(load_boundary(path), normal=made.normal) == made


def test_latent_is_not_a_boundary(tmp_path: Path) -> None:
    Latent(torch.zeros(1, 8, 512), "g", "f").save(tmp_path / "a.safetensors")
    with pytest.raises(InvalidFile, match="not a boundary"):
        Boundary.load(tmp_path / "a.safetensors")
    with pytest.raises(InvalidFile, match="not a boundary"):
        load_boundary(tmp_path / "a.safetensors")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="does not exist"):
        Boundary.load(tmp_path / "a.safetensors")


def stored(path: Path, metadata: dict[str, object], **tensors: Tensor) -> Path:
    wanted = {"kind": "boundary", "format": 1, "attribute": "smile", "resolutions": None} | metadata
    parts = {"normal": unit(0), "intercept": torch.tensor(0.0), "std": torch.tensor(1.0)} | tensors
    save_tensors(
        path,
        {key: value for key, value in parts.items() if value is not None},
        {key: value for key, value in wanted.items() if value is not ...},
    )
    return path


def test_minimal_file(tmp_path: Path) -> None:
    read = Boundary.load(stored(tmp_path / "a", {}))
    assert (read.attribute, read.std, read.resolutions, read.report) == ("smile", 1.0, None, {})


@pytest.mark.parametrize("version", [0, 3, None])
def test_other_format(tmp_path: Path, version: object) -> None:
    with pytest.raises(InvalidFile, match=rf"boundary format {version!r}; this facelatent reads 1 and 2: upgrade"):
        Boundary.load(stored(tmp_path / "a", {"format": version}))


def test_normal_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="not a boundary"):
        Boundary.load(stored(tmp_path / "a", {}, normal=torch.zeros(1, 512)))


@pytest.mark.parametrize(
    "change",
    [{"attribute": ...}, {"mood": 1}, {"std": None}, {"intercept": None}],
    ids=lambda change: next(iter(change)),
)
def test_part_missing_or_unknown(tmp_path: Path, change: dict[str, object]) -> None:
    metadata = {key: value for key, value in change.items() if value is not None}
    tensors = {key: value for key, value in change.items() if value is None}
    path = stored(tmp_path / "a", metadata, **tensors)  # type: ignore[arg-type]
    with pytest.raises(InvalidFile):
        Boundary.load(path)


# By name


def test_unknown_attribute_lists_the_known_ones_and_the_closest() -> None:
    with pytest.raises(UnknownAttribute) as caught:
        load_boundary("smlie")
    message = str(caught.value)
    assert message.startswith("unknown attribute 'smlie'; did you mean 'smile'? (known: ")
    assert message.endswith(f"(known: {', '.join(shipped_boundaries())})")
    for name in ("smile", "age", "gender", "yaw"):
        assert name in message


def test_nothing_close_is_not_guessed() -> None:
    with pytest.raises(UnknownAttribute, match=r"^unknown attribute 'xqzw' \(known: "):
        load_boundary("xqzw")


def test_a_folder_is_no_attribute(tmp_path: Path) -> None:
    with pytest.raises(UnknownAttribute):
        load_boundary(tmp_path)


def test_shipped_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smile").write_text("my notes on smiles")
    monkeypatch.chdir(tmp_path)
    assert load_boundary("smile").attribute == "smile"


def test_own_file_by_path_and_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_generator: MobileStyleGAN
) -> None:
    path = tmp_path / "grin.boundary.safetensors"
    a_boundary(tiny_generator, attribute="grin").save(path)
    assert load_boundary(str(path), tiny_generator).attribute == "grin"
    monkeypatch.setattr(loading, "shipped_boundaries", lambda: {"grin": path})
    assert load_boundary("grin", tiny_generator).attribute == "grin"


def test_boundary_of_another_generator_is_refused_with_both_names(
    tmp_path: Path, tiny_generator: MobileStyleGAN
) -> None:
    path = tmp_path / "a"
    a_boundary(tiny_generator).save(path)
    other = make_tiny_generator(seed=1)
    with pytest.raises(IncompatibleLatent) as caught:
        load_boundary(path, other)
    for word in ("smile", "tiny-0", "tiny-1", tiny_generator.fingerprint, other.fingerprint):
        assert word in str(caught.value)
    assert load_boundary(path).attribute == "smile"


# Those that are shipped


def test_what_is_shipped() -> None:
    expression = {"smile", "mouth_open", "surprise", "anger", "sadness", "eyes_open"}
    person = {"age", "gender", "hair_brightness", "skin_tone", "face_width", "glasses"}
    assert shipped_boundaries().keys() >= expression | person | {"yaw", "pitch", "lighting"}
    accuracies = {name: load_boundary(name).report["accuracy_held_out"] for name in ("smile", "gender", "yaw")}
    assert min(accuracies.values()) > 0.98


@pytest.mark.parametrize("name", list(shipped_boundaries()))
def test_shipped_boundary(name: str) -> None:
    path = shipped_boundaries()[name]
    assert path.stat().st_size < 50_000
    one = load_boundary(name)
    assert one.attribute == name
    assert one.generator == "mobile-ffhq-1024"
    assert one.normal.shape == (512,)
    assert one.normal.dtype == torch.float32
    assert float(one.normal.norm()) == pytest.approx(1, abs=1e-5)
    # E|w - w_avg|^2 of this generator is a few hundred over 512 coordinates: no direction is flat or enormous.
    assert 0.2 < one.std < 10
    assert math.isfinite(one.intercept)
    assert one.report["samples"] >= 5000
    for key in ("scorer", "seed", "psi", "ratio", "train", "held_out", "remaining"):
        assert key in one.report
    # The sides are balanced: guessing is right half the time.
    assert 0.85 < one.report["accuracy_held_out"] <= 1
    assert 0.6 < one.report["accuracy_all_held_out"] <= one.report["accuracy_held_out"]
    assert one.report["train"] + one.report["held_out"] + one.report["remaining"] == one.report["samples"]
    assert one.report["plus"]
    drift = one.report["disentangled"]["relative_drift"]
    assert set(one.report["disentangled"]["hold"]) < drift.keys()
    assert sum(drift.values()) / len(drift) < 1
    assert one.steps is not None
    assert one.steps.shape == (len(one.layer_resolutions), 512)
    # A strength of 1 goes about as far as codes vary.
    assert 0.2 < float(one.steps.norm(dim=1).max()) < 10


def test_shipped_boundaries_are_different_directions() -> None:
    normals = torch.stack([load_boundary(name).normal for name in shipped_boundaries()])
    cosines = normals @ normals.T - torch.eye(len(normals))
    assert cosines.abs().max() < 0.95  # a sad face is nearly one that smiles less


@pytest.mark.assets
def test_shipped_boundaries_belong_to_the_default_generator(mobile: Generator) -> None:
    for name in shipped_boundaries():
        one = load_boundary(name, mobile)
        assert one.fingerprint == mobile.fingerprint
        layers = edit_layers(one, mobile)
        assert 0 < len(layers) <= 16


@pytest.mark.assets
def test_shipped_deviation_is_that_of_the_default_generator(mobile: Generator) -> None:
    z = torch.randn(2000, 512, generator=torch.Generator().manual_seed(77))
    with torch.no_grad():
        w = mobile.mapping(z)
    for name in shipped_boundaries():
        one = load_boundary(name)
        psi = one.report["psi"]
        # Whether the codes were measured truncated or not, one standard deviation is one of theirs.
        spread = float((w @ one.normal).std())
        assert psi * spread * 0.9 < one.std < spread * 1.1, name
        # Neither side is empty: the hyperplane passes through where faces are.
        positive = float((one.distance(mobile.truncate(w, psi)) > 0).float().mean())
        assert 0.1 < positive < 0.9, name


# Fitting


def gaussian(n: int, seed: int = 0, dims: int = 512, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of unequal variances about a mean, and scores that grow along a known unit direction."""
    random = np.random.default_rng(seed)
    direction = random.normal(size=dims)
    direction /= np.linalg.norm(direction)
    ws = random.normal(size=(n, dims)) * random.uniform(0.8, 1.2, dims) + random.normal(size=dims)
    scores = (ws - ws.mean(0)) @ direction + noise * random.normal(size=n)
    return ws.astype(np.float32), scores, direction


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return gaussian(6000, dims=128)


def test_direction_is_recovered(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ws, scores, direction = data
    one = fit_boundary(ws, scores, ratio=0.2, attribute="smile")
    assert one.attribute == "smile"
    assert one.normal.dtype == torch.float32
    assert float(one.normal.norm()) == pytest.approx(1, abs=1e-6)
    assert one.normal.numpy() @ direction > 0.9
    assert one.std == pytest.approx(float((ws @ one.normal.numpy()).std()), rel=1e-4)
    assert one.report["accuracy_train"] > 0.95
    assert one.report["accuracy_held_out"] > 0.95
    assert one.report["accuracy_remaining"] > 0.7


def test_opposite_scores_give_the_opposite_normal(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ws, scores, direction = data
    assert fit_boundary(ws, -scores, ratio=0.2).normal.numpy() @ direction < -0.9


def test_intercept_puts_the_hyperplane_between_the_extremes(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ws, scores, _ = data
    one = fit_boundary(ws, scores, ratio=0.2)
    distance = one.distance(torch.from_numpy(ws)).numpy()
    assert abs(distance.mean()) < 0.1  # the scores are symmetric about the mean of w, which is far from 0
    assert distance.std() == pytest.approx(1, rel=1e-3)
    assert np.corrcoef(distance, scores)[0, 1] > 0.8
    moved = fit_boundary(ws + 3 * one.normal.numpy(), scores, ratio=0.2)
    assert moved.intercept == pytest.approx(one.intercept - 3, abs=0.02)


def test_report_adds_up(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ws, scores, _ = data
    report = fit_boundary(ws[:1000], scores[:1000], ratio=0.1, held_out=0.3, seed=5, c=0.01).report
    counts = {key: report[key] for key in ("samples", "train", "held_out", "remaining", "seed", "c", "ratio")}
    assert counts == {
        "samples": 1000,
        "train": 140,
        "held_out": 60,
        "remaining": 800,
        "seed": 5,
        "c": 0.01,
        "ratio": 0.1,
    }
    mixed = (report["accuracy_held_out"] * 60 + report["accuracy_remaining"] * 800) / 860
    assert report["accuracy_all_held_out"] == pytest.approx(mixed)


def test_rows_without_a_score_are_left_out(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ws, scores, _ = data
    ws, scores = ws[:1200], scores[:1200].copy()
    holes = np.arange(0, 1200, 6)
    scores[holes] = np.nan
    spoilt = ws.copy()
    spoilt[holes] = 0
    one = fit_boundary(spoilt, scores, ratio=0.2)
    rest = np.setdiff1d(np.arange(1200), holes)
    other = fit_boundary(ws[rest], scores[rest], ratio=0.2)
    assert one.report == other.report
    assert one.report["samples"] == 1000
    assert torch.allclose(one.normal, other.normal, atol=1e-6)


def test_infinite_scores_are_left_out(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ws, scores, direction = data
    scores = scores.copy()
    scores[:3] = [np.inf, -np.inf, np.nan]
    one = fit_boundary(ws, scores, ratio=0.2)
    assert one.report["samples"] == len(ws) - 3
    assert one.normal.numpy() @ direction > 0.9


def test_equal_seeds_equal_boundaries(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ws, scores, _ = data
    first, again, other = (fit_boundary(ws[:1500], scores[:1500], ratio=0.2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.normal, again.normal)
    assert (first.intercept, first.std, first.report) == (again.intercept, again.std, again.report)
    assert not torch.equal(first.normal, other.normal)
    assert float(first.normal @ other.normal) > 0.8


def test_arrays_are_not_changed(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ws, scores = data[0][:500].copy(), data[1][:500].copy()
    kept = ws.copy(), scores.copy()
    fit_boundary(ws, scores, ratio=0.2)
    assert np.array_equal(ws, kept[0])
    assert np.array_equal(scores, kept[1])


def test_held_out_accuracy_is_honest() -> None:
    # Scores that have nothing to do with the codes: learnt by heart, and no better than a coin on others.
    random = np.random.default_rng(0)
    ws, scores = random.normal(size=(1500, 512)), random.normal(size=1500)
    report = fit_boundary(ws, scores, ratio=0.2, c=1.0).report
    assert report["accuracy_train"] > 0.95
    assert abs(report["accuracy_held_out"] - 0.5) < 0.12
    assert abs(report["accuracy_remaining"] - 0.5) < 0.06


def test_no_remaining_codes_at_half(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ws, scores, _ = data
    report = fit_boundary(ws[:400], scores[:400], ratio=0.5).report
    assert report["remaining"] == 0
    assert math.isnan(report["accuracy_remaining"])
    assert report["accuracy_all_held_out"] == report["accuracy_held_out"]


@pytest.mark.parametrize("options", [{"ratio": 0}, {"ratio": 0.51}, {"ratio": -1}, {"held_out": 0}, {"held_out": 1}])
def test_shares_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be in"):
        fit_boundary(np.zeros((100, 4)), np.arange(100.0), **options)


def test_too_few_codes() -> None:
    with pytest.raises(ValueError, match=r"40 scored codes give 4 at each end at ratio 0\.1; at least 10"):
        fit_boundary(np.zeros((50, 4)), np.r_[np.arange(40.0), np.full(10, np.nan)], ratio=0.1)


# Moving along a boundary


def test_only_the_given_layers_move_by_alpha_deviations() -> None:
    one = a_boundary()
    ws = torch.randn(3, 8, 512, generator=torch.Generator().manual_seed(4))
    step = edit(ws, one, 2.0, [1, 4]) - ws
    expected = torch.zeros(3, 8, 512)
    expected[:, [1, 4]] = 2.0 * 1.5 * one.normal
    assert torch.allclose(step, expected, atol=1e-6)
    # To the letter for those that stay.
    assert torch.equal(edit(ws, one, 2.0, [1, 4])[:, [0, 2, 3, 5, 6, 7]], ws[:, [0, 2, 3, 5, 6, 7]])


def test_all_layers_by_default_and_none_on_request() -> None:
    ws = torch.zeros(1, 8, 512)
    assert torch.allclose(edit(ws, a_boundary(), -1.0), (-1.5 * unit(0)).expand(1, 8, 512), atol=1e-7)
    assert torch.equal(edit(ws, a_boundary(), 5.0, []), ws)


def test_zero_changes_nothing_and_the_input_is_left_alone() -> None:
    ws = torch.randn(2, 8, 512)
    kept = ws.clone()
    assert torch.equal(edit(ws, a_boundary(), 0.0), ws)
    edit(ws, a_boundary(), 3.0)
    assert torch.equal(ws, kept)


def test_one_unit_of_strength_is_one_unit_of_distance() -> None:
    w = torch.randn(5, 512, generator=torch.Generator().manual_seed(1))
    one = a_boundary()
    moved = edit(w[:, None], one, 1.7)[:, 0]
    assert torch.allclose(one.distance(moved) - one.distance(w), torch.full((5,), 1.7), atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(a=st.floats(-5, 5), b=st.floats(-5, 5), layers=st.sets(st.integers(0, 7)))
def test_strengths_add_up(a: float, b: float, layers: set[int]) -> None:
    ws = torch.ones(1, 8, 512)
    one = a_boundary()
    both = edit(edit(ws, one, a, layers), one, b, layers)
    assert torch.allclose(both, edit(ws, one, a + b, layers), atol=1e-5)


def test_edits_are_differentiable() -> None:
    ws = torch.zeros(1, 8, 512, requires_grad=True)
    edit(ws, a_boundary(), 1.0, [0]).sum().backward()
    assert torch.equal(ws.grad, torch.ones(1, 8, 512))


def test_half_precision_stays_half() -> None:
    assert edit(torch.zeros(1, 8, 512, dtype=torch.float16), a_boundary(), 1.0).dtype == torch.float16


def test_default_layers_follow_resolutions(tiny_generator: MobileStyleGAN) -> None:
    assert edit_layers(a_boundary(resolutions=(8, 16)), tiny_generator) == [1, 2, 3, 4]
    assert edit_layers(a_boundary(resolutions=None), tiny_generator) == list(range(8))


def test_order_of_edits_does_not_matter(tiny_generator: MobileStyleGAN) -> None:
    ws = torch.randn(1, 8, 512)
    edits = [
        AttributeEdit(a_boundary(), 2.0),
        AttributeEdit(a_boundary(normal=unit(1)), -1.0, (8, 16)),
    ]
    forwards, backwards = (apply_edits(ws, order, tiny_generator) for order in (edits, edits[::-1]))
    assert torch.allclose(forwards, backwards, atol=1e-6)
    assert torch.equal(apply_edits(ws, [], tiny_generator), ws)


# Scoring samples


class Brightness:
    """A scorer that needs no face; every seventh picture it sees has none."""

    name = "brightness"
    attributes: tuple[str, ...] = ("bright", "red")

    def __init__(self) -> None:
        self.seen = 0

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> dict[str, np.ndarray]:
        assert faces is not None
        assert len(faces) == len(images)
        bright = images.mean((1, 2, 3)).numpy().astype(np.float64)
        bright[(self.seen + np.arange(len(images))) % 7 == 6] = np.nan
        self.seen += len(images)
        return {"bright": bright, "red": images[:, 0].mean((1, 2)).numpy().astype(np.float64)}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SHARD", 10)


def scored(
    generator: Generator, count: int, folder: Path, scorer: Scorer, **options: object
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    result = sample_scores(generator, count, folder, scorers=(scorer,), **options)  # type: ignore[arg-type]
    return result.ws, result.scores


@pytest.mark.usefixtures("small_shards")
def test_longer_run_continues_a_shorter_one(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    scorer = Brightness()
    ws, scores = scored(tiny_generator, 15, tmp_path, scorer)
    assert ws.shape == (15, 512)
    assert {name: values.shape for name, values in scores.items()} == {"bright": (15,), "red": (15,)}
    assert np.isnan(scores["bright"]).sum() == 2
    assert scorer.seen == 20
    times = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())}
    assert [path.name for path in times] == ["codes-00000.npz", "codes-00001.npz"]

    longer, more = scored(tiny_generator, 25, tmp_path, scorer)
    assert scorer.seen == 30  # one shard more, not three
    assert np.array_equal(longer[:15], ws)
    assert np.array_equal(more["bright"][:15], scores["bright"], equal_nan=True)
    assert {path: path.stat().st_mtime_ns for path in times} == times

    # A shorter one reads what is there.
    fewer, _ = scored(tiny_generator, 4, tmp_path, scorer)
    assert scorer.seen == 30
    assert np.array_equal(fewer, ws[:4])


@pytest.mark.usefixtures("small_shards")
def test_killed_run_is_taken_up_again(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    whole, scores = scored(tiny_generator, 20, tmp_path / "whole", Brightness())

    class Killed(Brightness):
        def score(self, images: Tensor, faces: list[Face | None] | None = None) -> dict[str, np.ndarray]:
            if self.seen >= 12:
                raise KeyboardInterrupt
            return super().score(images, faces)

    with pytest.raises(KeyboardInterrupt):
        scored(tiny_generator, 20, tmp_path / "killed", Killed())
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["codes-00000.npz"]
    resumed = Brightness()
    resumed.seen = 10
    ws, again = scored(tiny_generator, 20, tmp_path / "killed", resumed)
    assert resumed.seen == 20
    assert np.array_equal(ws, whole)
    assert np.array_equal(again["bright"], scores["bright"], equal_nan=True)


@pytest.mark.usefixtures("small_shards")
def test_codes_are_the_generators_and_scores_are_theirs(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    ws, scores = scored(tiny_generator, 20, tmp_path, Brightness(), psi=0.5, batch=3)
    assert len(np.unique(ws, axis=0)) == 20  # shards do not repeat each other
    codes = torch.from_numpy(ws)
    with torch.no_grad():
        drawn = tiny_generator.synthesis(tiny_generator.broadcast(codes)).mean((2, 3))[:, 0].numpy()
        untruncated = scored(tiny_generator, 20, tmp_path / "one", Brightness(), psi=1.0)[0]
    assert scores["red"] == pytest.approx(drawn, abs=1e-5)
    half = tiny_generator.truncate(torch.from_numpy(untruncated), 0.5)
    assert torch.allclose(codes, half, atol=1e-5)


@pytest.mark.usefixtures("small_shards")
def test_seeds_differ(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    first, _ = scored(tiny_generator, 10, tmp_path / "a", Brightness(), seed=0)
    second, _ = scored(tiny_generator, 10, tmp_path / "b", Brightness(), seed=1)
    assert not np.isclose(first, second).all(1).any()


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("options", [{"seed": 1}, {"psi": 0.7}])
def test_other_settings_are_refused(tmp_path: Path, tiny_generator: MobileStyleGAN, options: dict[str, object]) -> None:
    scored(tiny_generator, 10, tmp_path, Brightness())
    with pytest.raises(InvalidFile, match=r"codes-00000\.npz was made with other settings than .*another folder"):
        scored(tiny_generator, 20, tmp_path, Brightness(), **options)


@pytest.mark.usefixtures("small_shards")
def test_other_generator_is_refused(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    scored(tiny_generator, 10, tmp_path, Brightness())
    with pytest.raises(InvalidFile, match="other settings"):
        scored(make_tiny_generator(seed=1), 10, tmp_path, Brightness())


class Contrast(Brightness):
    name = "contrast"
    attributes = ("contrast",)

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> dict[str, np.ndarray]:
        self.seen += len(images)
        return {"contrast": images.std((1, 2, 3)).numpy()}


@pytest.mark.usefixtures("small_shards")
def test_scores_are_added_to_the_same_faces(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    first, added = Brightness(), Contrast()
    ws, scores = scored(tiny_generator, 10, tmp_path, first)
    again, more = scored(tiny_generator, 20, tmp_path, added)
    assert (first.seen, added.seen) == (10, 20)
    assert set(more) == {"contrast"}
    assert np.array_equal(again[:10], ws)
    kept = read_scores(tmp_path, 10)
    assert set(kept.scores) == {"bright", "red", "contrast"}
    assert np.array_equal(kept.scores["bright"], scores["bright"], equal_nan=True)
    assert set(read_scores(tmp_path).scores) == {"contrast"}  # the second shard has no others
    assert len(read_scores(tmp_path).ws) == 20


@pytest.mark.usefixtures("small_shards")
def test_newer_version_of_a_scorer_scores_anew(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    scored(tiny_generator, 10, tmp_path, Contrast())
    newer = Contrast()
    newer.version = "2"  # type: ignore[attr-defined]
    scored(tiny_generator, 10, tmp_path, newer)
    scored(tiny_generator, 10, tmp_path, newer)
    assert newer.seen == 10


@pytest.mark.usefixtures("small_shards")
def test_shards_of_the_first_format(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    """They are read, and their codes kept; their scores, of which nobody knows how they were made, are made anew."""
    scored(tiny_generator, 10, tmp_path, Contrast())
    path = sampling.shard_path(tmp_path, 0)
    shard = dict(np.load(path))
    shard.pop("scorers")
    shard["signature"] = np.array(f"{shard['signature']} scores=contrast")
    shard["contrast"] = np.arange(10.0)
    np.savez(path, **shard)
    assert read_scores(tmp_path).scores["contrast"].tolist() == list(range(10))
    newer = Contrast()
    ws, scores = scored(tiny_generator, 10, tmp_path, newer)
    assert newer.seen == 10
    assert np.array_equal(ws, shard["w"])
    assert scores["contrast"].max() < 2


@pytest.mark.usefixtures("small_shards")
def test_processes_share_the_shards(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    whole, _ = scored(tiny_generator, 50, tmp_path / "one", Contrast())
    made = [
        make_shards(tiny_generator, 50, tmp_path / "two", scorers=(Contrast(),), share=Share(rank, 2))
        for rank in (1, 0)
    ]
    assert made == [20, 30]
    assert np.array_equal(read_scores(tmp_path / "two", 50).ws, whole)


def test_shards_of_another_size(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    made = sample_scores(tiny_generator, 12, tmp_path, scorers=(Contrast(),), shard=8)
    assert (len(made.ws), len(read_scores(tmp_path).ws)) == (12, 16)
    with pytest.raises(InvalidFile, match="made with other settings"):
        sample_scores(tiny_generator, 12, tmp_path, scorers=(Contrast(),), shard=4)


def test_share_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Share.from_environment() == Share(0, 1)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ValueError, match="got 3 of 1"):
        Share.from_environment()
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (Share.from_environment().rank, Share.from_environment().world) == (3, 4)


@pytest.mark.usefixtures("small_shards")
def test_reading_what_is_not_all_there(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    with pytest.raises(InvalidFile, match="holds 0 scored codes without a gap"):
        read_scores(tmp_path)
    scored(tiny_generator, 30, tmp_path, Contrast())
    with pytest.raises(InvalidFile, match=r"holds 30 scored codes without a gap, 31 wanted; .*attributes sample"):
        read_scores(tmp_path, 31)
    sampling.shard_path(tmp_path, 1).unlink()
    with pytest.raises(InvalidFile, match="holds 10 scored codes"):
        read_scores(tmp_path, 30)
    scored(tiny_generator, 20, tmp_path / "other", Contrast(), psi=0.5)
    sampling.shard_path(tmp_path / "other", 1).rename(sampling.shard_path(tmp_path, 1))
    with pytest.raises(InvalidFile, match="belong to different runs"):
        read_scores(tmp_path)


def test_doubtful_faces() -> None:
    detection = np.array([1.0, np.nan, 0.1, 0.5])
    codes = ScoredCodes(np.arange(8.0).reshape(4, 2), {"detection": detection, "age": np.arange(4.0)})
    assert codes.doubtful().tolist() == [False, True, True, False]
    assert codes.doubtful(0.05).tolist() == [False, True, False, False]
    assert codes.reliable().scores["age"].tolist() == [0, 3]
    assert codes.reliable().ws.tolist() == [[0, 1], [6, 7]]
    with pytest.raises(InvalidFile, match="no score 'detection'"):
        ScoredCodes(codes.ws, {}).doubtful()


@pytest.mark.usefixtures("small_shards")
def test_sample_command(tmp_path: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise has no face: every one is doubtful, and no weights are fetched."""
    out = tmp_path / "codes"
    command = ["attributes", "sample", "--n", "15", "-o", str(out), "--scorer", "detection", "--scorer", "geometry"]
    done = CliRunner().invoke(main, [*command, *tiny, "--json", str(tmp_path / "record.json")])
    assert done.exit_code == 0, done.output
    assert "scored 20 faces" in done.output and "15 of 15 show no sure face" in done.output
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["doubtful"] == 15 and "yaw" in record["attributes"]
    assert "scored 0 faces" in CliRunner().invoke(main, [*command, *tiny]).output
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    shared = CliRunner().invoke(main, [*command[:4], "-o", str(tmp_path / "two"), "--scorer", "detection", *tiny])
    assert "process 1 of 2: scored 10 faces" in shared.output
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["codes-00001.npz"]


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut off", b"\x80\x04."])
def test_damaged_shard(tmp_path: Path, tiny_generator: MobileStyleGAN, content: bytes) -> None:
    (tmp_path / "codes-00000.npz").write_bytes(content)
    with pytest.raises(InvalidFile):
        scored(tiny_generator, 10, tmp_path, Brightness())


def test_real_shards_are_not_tiny() -> None:
    # What a killed run loses, against a file for each face.
    assert sampling.SHARD == 500
    assert sampling.shard_path(Path("x"), 12).name == "codes-00012.npz"
