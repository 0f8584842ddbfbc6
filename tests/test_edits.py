"""Edits that reach scores, stay in regions, and change little else; what directions do; on a tiny generator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_parts import run, worked
from PIL import Image, ImageChops
from torch import Tensor

from facelatent import editing
from facelatent.boundaries import (
    Boundary,
    Goal,
    draw_edited,
    edit,
    fit_boundary,
    limited,
    load_boundary,
    reach,
    region_mask,
    sampling,
    style_shift,
)
from facelatent.boundaries import mixed as mixed_module
from facelatent.boundaries import regions as regions_module
from facelatent.boundaries.codes import ScoredCodes, read_codes
from facelatent.boundaries.discover import ganspace, sefa
from facelatent.boundaries.disentangle import (
    FIRST_SEED,
    Probes,
    disentangle,
    layer_candidates,
    mix,
    probe,
    style_candidates,
)
from facelatent.boundaries.mixed import STRENGTHS, fit_mixed
from facelatent.boundaries.sampling import expanded, make_shards, sample_scores
from facelatent.boundaries.training import SPACES, TrainSettings, train_boundary
from facelatent.commands import boundaries as boundaries_command
from facelatent.errors import FacelatentError, InvalidFile, NoFaceFound, UnknownAttribute
from facelatent.evaluation.directions import (
    Direction,
    evaluate_directions,
    heat_map,
    matrix_table,
    own_direction,
    published_directions,
    push,
    record,
)
from facelatent.faces import Face
from facelatent.latent import Latent
from facelatent.stylegan_ops import Generator, MobileStyleGAN


def measure(images: Tensor) -> dict[str, np.ndarray]:
    """Scores of pictures that need no face: how bright, and how red beside blue."""
    small = torch.nn.functional.adaptive_avg_pool2d(images, 4)
    return {
        "bright": images.mean((1, 2, 3)).numpy(),
        "red": (images[:, 0] - images[:, 2]).mean((1, 2)).numpy(),
        "identity": small[:, :, 1:3, 1:3].flatten(1).numpy(),
        "picture": small.flatten(1).numpy(),
    }


class Colours:
    """:func:`measure`'s scores, as a scorer."""

    name = "colours"
    attributes: tuple[str, ...] = ("bright", "red")

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> dict[str, np.ndarray]:
        measured = measure(images)
        return {name: measured[name] for name in self.attributes}


@pytest.fixture(scope="module")
def codes(tiny_generator: MobileStyleGAN) -> ScoredCodes:
    random = torch.Generator().manual_seed(0)
    parts = []
    with torch.no_grad():
        ws = tiny_generator.truncate(tiny_generator.mapping(torch.randn(1500, 512, generator=random)), 0.8)
        for part in torch.split(ws, 50):
            parts.append(measure(tiny_generator.synthesis(tiny_generator.broadcast(part), resolution=16)))
    scores = {name: np.concatenate([part[name] for part in parts]) for name in ("bright", "red")}
    return ScoredCodes(ws.numpy(), scores)


@pytest.fixture(scope="module")
def bright(codes: ScoredCodes, tiny_generator: MobileStyleGAN) -> Boundary:
    return train_boundary("light", "bright", codes, tiny_generator, TrainSettings(ratio=0.3))


@pytest.fixture(scope="module")
def red(codes: ScoredCodes, tiny_generator: MobileStyleGAN) -> Boundary:
    return train_boundary("warm", "red", codes, tiny_generator, TrainSettings(ratio=0.3))


# Reaching a score


def test_score_is_reached(tiny_generator: MobileStyleGAN, bright: Boundary) -> None:
    ws = tiny_generator.broadcast(tiny_generator.sample_w(5, 0.7))
    before = float(measure(tiny_generator.synthesis(ws, resolution=64))["bright"][0])
    for wanted in (before + 0.1, before - 0.1):
        found = reach(tiny_generator, ws, [Goal(bright, wanted)], measure)
        assert found.scores[0] == pytest.approx(wanted, abs=0.02)
        assert (found.alphas[0] > 0) == (wanted > before)
        assert found.missed == [False]


def test_what_is_out_of_reach_is_said(tiny_generator: MobileStyleGAN, bright: Boundary) -> None:
    ws = tiny_generator.broadcast(tiny_generator.sample_w(5, 0.7))
    found = reach(tiny_generator, ws, [Goal(bright, 50.0)], measure)
    assert found.missed == [True]
    assert abs(found.alphas[0]) <= 6


def test_held_scores_come_back(tiny_generator: MobileStyleGAN, bright: Boundary, red: Boundary) -> None:
    ws = tiny_generator.broadcast(tiny_generator.sample_w(5, 0.7))
    before = float(measure(tiny_generator.synthesis(ws, resolution=64))["red"][0])
    # An edit that changes both at once.
    both = replace(bright, normal=(bright.normal + red.normal) / (bright.normal + red.normal).norm())
    fixed = [(both, 2.0, range(8))]
    drawn = tiny_generator.synthesis(ws + 2.0 * both.step(8), resolution=64)
    assert abs(float(measure(drawn)["red"][0]) - before) > 0.03
    found = reach(tiny_generator, ws, [Goal(red)], measure, fixed=fixed)
    assert found.scores[0] == pytest.approx(before, abs=0.02)
    assert found.alphas[0] != 0


def test_no_face_no_score(tiny_generator: MobileStyleGAN, bright: Boundary) -> None:
    ws = tiny_generator.broadcast(tiny_generator.sample_w(5, 0.7))
    with pytest.raises(NoFaceFound):
        reach(tiny_generator, ws, [Goal(bright, 0.1)], lambda images: {"bright": np.array([np.nan])})


# Regions


def face_at(centre: float) -> Face:
    angles = np.linspace(0, np.pi, 17)
    jaw = np.stack([centre - 20 * np.cos(angles), centre + 20 * np.sin(angles)], 1)
    rest = np.stack([np.linspace(centre - 10, centre + 10, 51), np.full(51, centre - 5.0) + np.arange(51) % 3], 1)
    rest[10:14, 1] = centre + np.arange(4) * 4  # the nose, downwards
    return Face((int(centre - 20),) * 2 + (int(centre + 20),) * 2, 1.0, np.concatenate([jaw, rest]))


def test_only_the_region_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions_module, "find_faces", lambda pixels: [face_at(64)])
    before, after = Image.new("RGB", (128, 128), "black"), Image.new("RGB", (128, 128), "white")
    mixed = np.asarray(limited(before, after, region_mask("face", before)).convert("L"))
    assert mixed[64, 64] == 255
    assert (mixed[:10] == 0).all()
    assert (mixed[:, :10] == 0).all()
    outside = np.asarray(region_mask("background", before))
    assert outside[64, 64] == 0
    assert (outside[:10] == 255).all()


def test_own_mask(tmp_path: Path) -> None:
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (0, 0, 16, 32))
    mask.save(tmp_path / "mask.png")
    found = region_mask(str(tmp_path / "mask.png"), Image.new("RGB", (64, 64)))
    assert found.size == (64, 64)
    assert found.getpixel((5, 5)) == 255
    assert found.getpixel((60, 5)) == 0


def test_regions_that_are_not_there() -> None:
    picture = Image.new("RGB", (64, 64))
    with pytest.raises(FacelatentError, match="neither a picture's file nor one of face, eyes"):
        region_mask("tail", picture)


# Directions without labels


def test_ganspace_is_the_principal_components(tiny_generator: MobileStyleGAN) -> None:
    first, second = ganspace(tiny_generator, 2)
    w = tiny_generator.typical_ws(2000)
    assert first.std > second.std
    assert float((w @ first.normal).std()) == pytest.approx(first.std, rel=0.05)
    assert float(first.distance(w).mean()) == pytest.approx(0, abs=0.1)
    assert float(first.distance(w).std()) == pytest.approx(1, abs=0.05)


def test_sefa_stretches_most(tiny_generator: MobileStyleGAN) -> None:
    found = sefa(tiny_generator, 3, (8, 8))
    assert [one.resolutions for one in found] == [(8, 8)] * 3
    weights = [linear.weight for _, index, linear in tiny_generator.sites() if index in (1, 2)]
    rows = torch.cat(weights)
    rows = rows / rows.norm(dim=1, keepdim=True)
    expected = torch.linalg.svd(rows).Vh[:3]
    cosines = (torch.stack([one.normal for one in found]) * expected).sum(1).abs()
    assert torch.allclose(cosines, torch.ones(3), atol=1e-3)


# Cleaner edits


@pytest.mark.parametrize("space", ["w+", "s"])
def test_combination_changes_the_score_as_the_plain_edit_does(
    tmp_path: Path, tiny_generator: MobileStyleGAN, codes: ScoredCodes, space: str
) -> None:
    settings = TrainSettings(ratio=0.3, hold=("red",), space=space, faces=6, channels=12)  # type: ignore[arg-type]
    made = train_boundary("light", "bright", codes, tiny_generator, settings, tmp_path, measure)
    report = made.report["disentangled"]
    assert (report["hold"], report["faces"]) == (["red"], 6)
    assert report["relative_drift"].keys() == {"red", "identity", "picture"}
    assert (made.steps is not None, bool(made.styles)) == ((space == "w+"), (space == "s"))
    # The probes are measured with each candidate alone: what is saved must do together what their sum says.
    files = [np.load(path) for path in sorted(tmp_path.glob("probe-*.npz"))]
    single = np.mean([(one["bright"][1::2] - one["bright"][2::2]) / 2 for one in files], 0)
    own = single[:5] if space == "w+" else single
    drawn = []
    for index in range(6):
        ws = tiny_generator.broadcast(tiny_generator.sample_w(FIRST_SEED + index, 0.7))
        for alpha in (1.0, -1.0):
            edited = draw_edited(tiny_generator, edit(ws, made, alpha), style_shift([(made, alpha)]), 64)
            drawn.append(float(measure(edited)["bright"][0]))
    together = np.mean(np.subtract(drawn[::2], drawn[1::2])) / 2
    assert together == pytest.approx(float(own.sum()), rel=0.25)


def test_mixed_codes_tell_where_an_attribute_lives() -> None:
    random = np.random.default_rng(0)
    ws = random.normal(size=(3000, 5, 32)).astype(np.float32)
    truth = np.zeros((5, 32))
    truth[1], truth[3, :4] = random.normal(size=32), 0.5
    scores = 7 * (ws * truth).sum((1, 2)) + random.normal(size=3000)
    scores[:10] = np.nan
    found = fit_mixed(ws, scores)
    assert found.explained > 0.98
    assert np.allclose(found.slopes, 7 * truth, atol=0.15)
    # Noise has no slopes: nothing is explained, and the strongest ridge is taken.
    noise = fit_mixed(ws, random.normal(size=3000))
    assert noise.explained < 0.02
    assert noise.c == min(STRENGTHS)
    with pytest.raises(ValueError, match=r"mixed codes have one w for each group of layers, .* got \(3000, 32\)"):
        fit_mixed(ws[:, 0], scores)
    with pytest.raises(ValueError, match=r"codes must be \[n, 512\], one a face, got \[3000, 5, 32\]"):
        fit_boundary(ws, scores)


def test_mixed_faces_are_the_candidates(
    tmp_path: Path, tiny_generator: MobileStyleGAN, codes: ScoredCodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "SHARD", 200)
    monkeypatch.setattr(mixed_module, "STRENGTHS", STRENGTHS[:2])  # fits on 2560 numbers each take a second
    made = [make_shards(tiny_generator, 600, tmp_path / "mixed", scorers=(Colours(),), mixed=True) for _ in range(2)]
    assert made == [600, 0]
    mixed = read_codes(tmp_path / "mixed")
    assert mixed.ws.shape == (600, 5, 512)
    # Each group of layers is drawn from its own code.
    ws = torch.from_numpy(mixed.ws[:1])
    whole = expanded(tiny_generator, ws)
    assert torch.equal(whole[0, tiny_generator.layers_between(8, 8)[0]], ws[0, 1])
    picture = tiny_generator.synthesis(whole)
    assert float(measure(picture)["bright"][0]) == pytest.approx(mixed.scores["bright"][0], abs=1e-3)
    with pytest.raises(InvalidFile, match="made with other settings"):
        make_shards(tiny_generator, 600, tmp_path / "mixed", scorers=(Colours(),))
    settings = TrainSettings(ratio=0.3, hold=("red",), space="w+", faces=6)
    found = train_boundary("bright", "bright", codes, tiny_generator, settings, tmp_path, measure, mixed=mixed)
    report = found.report["disentangled"]
    assert report["candidates"] == 1 + 2 * 5
    assert found.steps is not None
    assert report["relative_drift"]["red"] < 1.5


def test_mix_cancels_the_leak_and_keeps_the_change() -> None:
    random = np.random.default_rng(0)

    def around(mean: list[float]) -> np.ndarray:
        return np.array(mean) + 0.05 * random.normal(size=(20, 4))

    # The first candidate smiles and ages, the second smiles a little, the third only ages, the fourth does nothing.
    person = np.stack([around([1, 0, 1, 0]) for _ in range(3)], -1)
    changes = {"smile": around([1, 0.4, 0, 0]), "age": around([1, 0, 1, 0]), "identity": person, "picture": person}
    probes = Probes([], changes, {"smile": 1.0, "age": 1.0})
    plain = np.array([1.0, 0, 0, 0])
    found = mix(probes, plain, "smile", ["age"])
    gradient = changes["smile"].mean(0)
    assert gradient @ found.coefficients == pytest.approx(gradient @ plain)
    assert found.drift["age"] < 0.5
    assert found.coefficients[2] < -0.3
    assert abs(found.coefficients[3]) < 0.1
    with pytest.raises(ValueError, match="does not change smile"):
        mix(probes, np.zeros(4), "smile", ["age"])


def test_probing_goes_on_where_it_was(tmp_path: Path, tiny_generator: MobileStyleGAN, bright: Boundary) -> None:
    candidates = layer_candidates([bright], tiny_generator)
    assert len(candidates) == 5
    seen = []

    def counted(images: Tensor) -> dict[str, np.ndarray]:
        seen.append(len(images))
        return measure(images)

    first = probe(tiny_generator, candidates, tmp_path, 2, counted)
    assert sum(seen) == 2 * (1 + 2 * 5)
    again = probe(tiny_generator, candidates, tmp_path, 3, counted)
    assert sum(seen) == 3 * (1 + 2 * 5)
    assert np.array_equal(again.changes["bright"][:2], first.changes["bright"])
    with pytest.raises(InvalidFile, match="other candidates or settings"):
        probe(tiny_generator, candidates[:3], tmp_path, 3, counted)
    (tmp_path / "probe-0001.npz").write_bytes(b"torn")
    with pytest.raises(InvalidFile, match="damaged"):
        probe(tiny_generator, candidates, tmp_path, 3, counted)


def test_unmeasured_score(tmp_path: Path, tiny_generator: MobileStyleGAN, bright: Boundary) -> None:
    probes = probe(tiny_generator, layer_candidates([bright], tiny_generator), tmp_path, 3, measure)
    with pytest.raises(ValueError, match=r"not measured: mood \(measured: bright"):
        disentangle(bright, probes, ["mood"])


def test_style_channels_are_those_that_differ(tiny_generator: MobileStyleGAN, bright: Boundary) -> None:
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        ws = tiny_generator.mapping(torch.randn(400, 512, generator=random))
        styles = tiny_generator.styles(tiny_generator.broadcast(ws))
    chosen = style_candidates(bright, tiny_generator, ws.numpy(), styles["b16.conv1"][:, 3].numpy(), count=3)
    assert list(chosen[0].styles) == ["b16.conv1"]
    assert int(chosen[0].styles["b16.conv1"].abs().argmax()) == 3
    assert float(chosen[0].styles["b16.conv1"][3]) > 0


def test_projection_keeps_the_plane_in_place(tiny_generator: MobileStyleGAN, codes: ScoredCodes, red: Boundary) -> None:
    settings = TrainSettings(ratio=0.3, hold=("red",))
    made = train_boundary("light", "bright", codes, tiny_generator, settings)
    plain = train_boundary("light", "bright", codes, tiny_generator, TrainSettings(ratio=0.3))
    assert float(made.normal @ red.normal) == pytest.approx(0, abs=1e-5)
    ws = torch.from_numpy(codes.ws)
    assert float(made.distance(ws).mean() * made.std) == pytest.approx(
        float(plain.distance(ws).mean() * plain.std), abs=0.05
    )
    with pytest.raises(UnknownAttribute, match=r"unknown score 'mood' \(the codes have: bright, red\)"):
        train_boundary("light", "mood", codes, tiny_generator)


# Reading codes


def test_codes_of_a_folder(tmp_path: Path) -> None:
    for index in range(3):
        np.savez(tmp_path / f"codes-{index}.npz", w=np.full((4, 8), index, np.float32), age=np.full(4, float(index)))
    read = read_codes(tmp_path, 6)
    assert read.ws.shape == (6, 8)
    assert read.scores["age"].tolist() == [0, 0, 0, 0, 1, 1]
    np.savez(tmp_path / "codes-3.npz", w=np.zeros((4, 8)), mood=np.zeros(4))
    with pytest.raises(InvalidFile, match="other settings"):
        read_codes(tmp_path)
    with pytest.raises(InvalidFile, match=r"has no \.npz"):
        read_codes(tmp_path / "none")


def test_codes_that_were_sampled_can_be_trained_on(tiny_generator: MobileStyleGAN, tmp_path: Path) -> None:
    class Light:
        name = "light"
        attributes = ("light",)

        def score(self, images: torch.Tensor, faces: object = None) -> dict[str, np.ndarray]:
            return {"light": images.mean((1, 2, 3)).double().numpy()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facelatent.boundaries.sampling.SHARD", 30)
        made = sample_scores(tiny_generator, 30, tmp_path, scorers=(Light(),))
    read = read_codes(tmp_path)
    assert np.array_equal(read.ws, made.ws)
    assert read.scores.keys() == {"light"}
    assert np.array_equal(read.scores["light"], made.scores["light"])


# What directions do


def test_evaluation(tmp_path: Path, tiny_generator: MobileStyleGAN, bright: Boundary, red: Boundary) -> None:
    turned = replace(bright, normal=-bright.normal)
    directions = [
        Direction("light", bright, "bright"),
        Direction("dark", turned, "bright"),
        Direction("warm", red, "red"),
    ]
    results = evaluate_directions(tiny_generator, directions, measure, faces=5, targets={"bright": 0.1, "red": 0.05})
    light, dark, warm = results
    assert light.matched.strength == pytest.approx(-dark.matched.strength, rel=0.05)
    assert light.matched.drift["red"] == pytest.approx(dark.matched.drift["red"], rel=0.1)
    assert dark.curve == sorted(dark.curve)
    assert light.monotonicity == dark.monotonicity > 0.9
    assert light.per_sd["bright"] > 0 > dark.per_sd["bright"]
    assert light.identity[light.strengths.index(0.0)] == 0
    assert light.matched.success > 0.5
    assert warm.matched.change == pytest.approx(0.05, abs=0.01)
    assert warm.matched.dependency > 0
    table = matrix_table(results)
    assert "*+0.10" in table
    assert len(table.splitlines()) == 4
    assert matrix_table(results, ["red"]).splitlines()[0].split() == [
        "strength",
        "red",
        "identity",
        "AD",
        "success",
        "rises",
    ]
    assert heat_map(results).width > 200
    assert json.dumps(record({"a": [float("nan"), 1.0]})) == '{"a": [null, 1.0]}'
    with pytest.raises(ValueError, match="not measured: mood"):
        evaluate_directions(tiny_generator, [Direction("light", bright, "mood")], measure, faces=2)


def test_push_finds_the_strength() -> None:
    strength, change, _ = push(lambda alpha: (alpha**2, {}), 5.0, [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 4.0, 9.0])
    assert strength == pytest.approx(5**0.5, rel=0.01)
    assert change == pytest.approx(5, rel=0.015)
    beyond, _, _ = push(lambda alpha: (float("nan") if abs(alpha) > 3.5 else -alpha, {}), 4.0, [0.0, -1.0], [0.0, 1.0])
    assert -3.5 <= beyond < -2.5


def test_published_directions_are_found_by_their_scores(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    rows = torch.randn(3, 1, 512).numpy()
    np.savez(tmp_path / "e4e.npz", smile=rows[0], pose=rows[1], age=rows[2])
    found = published_directions(tmp_path / "e4e.npz", tiny_generator, ["yaw", "happy"])
    assert [(one.label, one.score) for one in found] == [("smile (e4e)", "happy"), ("pose (e4e)", "yaw")]
    assert len(published_directions(tmp_path, tiny_generator, ["age"])) == 1
    with pytest.raises(InvalidFile, match="has no direction for mood"):
        published_directions(tmp_path, tiny_generator, ["mood"])


# Commands


def test_spaces_are_those_of_the_library() -> None:
    assert boundaries_command.SPACES == SPACES


def test_train_and_edit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codes: ScoredCodes,
    tiny: tuple[str, ...],
    tiny_generator: MobileStyleGAN,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "codes").mkdir()
    np.savez(tmp_path / "codes/codes-0.npz", w=codes.ws, **codes.scores)
    output = worked("attributes", "train", "bright", "--codes", "codes", "--ratio", "0.3", *tiny)
    assert "wrote bright.boundary.safetensors" in output
    made = load_boundary("bright.boundary.safetensors", tiny_generator)
    assert made.report["accuracy_held_out"] > 0.8
    assert made.score == "bright"

    monkeypatch.setattr(editing, "SCORERS", (Colours(),))
    ws = tiny_generator.broadcast(tiny_generator.sample_w(5, 0.7)).contiguous()
    Latent(ws, tiny_generator.name, tiny_generator.fingerprint).save("me.latent.safetensors")
    wanted = float(measure(tiny_generator.synthesis(ws, resolution=64))["bright"][0]) + 0.1
    monkeypatch.setattr(editing, "score_faces", lambda images, scorers: scorers[0].score(images))
    worked("edit", "me.latent.safetensors", "--to", f"bright.boundary.safetensors={wanted}", "-o", "a.png", *tiny)
    brightness = np.asarray(Image.open("a.png").convert("RGB")).mean() / 127.5 - 1
    assert brightness == pytest.approx(wanted, abs=0.04)
    Image.new("L", (8, 8), 0).save("nothing.png")
    bright = ("--boundary", "bright.boundary.safetensors")
    for name, options in (("plain.png", ("--alpha", "0")), ("masked.png", ("--alpha", "3", "--region", "nothing.png"))):
        worked("edit", "me.latent.safetensors", *bright, *options, "-o", name, *tiny)
    assert ImageChops.difference(Image.open("plain.png"), Image.open("masked.png")).getbbox() is None


@pytest.mark.parametrize(
    "arguments",
    [(), ("--to", "age"), ("--to", "age=old"), ("--to", "age=40", "--alpha", "2")],
    ids=["nothing", "no score", "no number", "strength of nothing"],
)
def test_edit_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run("edit", str(tmp_path / "me.jpg"), *arguments)
    assert result.exit_code == 2


def test_discover(tmp_path: Path, tiny: tuple[str, ...], tiny_generator: Generator) -> None:
    out = tmp_path / "found"
    output = worked("attributes", "discover", "--count", "2", "-o", out, *tiny)
    assert output == f"wrote 2 directions to {out}/\n"
    assert sorted(path.name for path in out.iterdir()) == [
        "ganspace-00.boundary.safetensors",
        "ganspace-00.jpg",
        "ganspace-01.boundary.safetensors",
        "ganspace-01.jpg",
    ]
    assert own_direction(str(out / "ganspace-01.boundary.safetensors"), tiny_generator).label == "ganspace-01"
