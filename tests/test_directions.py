"""Directions: projection, walks, steps a layer, style space, and what other projects publish."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_tiny_generator
from sklearn.svm import LinearSVC

from facelatent.boundaries import (
    Boundary,
    draw_edited,
    edit,
    fit_boundary,
    held,
    load_boundary,
    project,
    published_names,
    style_shift,
    walk,
)
from facelatent.errors import IncompatibleLatent, InvalidFile
from facelatent.stylegan_ops import MobileStyleGAN


def units(count: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, 512, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


# The public systems' numbers


@pytest.fixture(scope="module")
def golden(goldens: Path) -> dict[str, np.ndarray]:
    return dict(np.load(goldens / "boundary_math.npz"))


@pytest.mark.parametrize("convert", [lambda array: array, torch.from_numpy], ids=["array", "tensor"])
def test_projection_is_interfacegans(golden: dict[str, np.ndarray], convert) -> None:
    primal, first, second = (convert(golden[name]) for name in ("primal", "cond1", "cond2"))
    assert type(project(primal, [first])) is type(primal)
    assert np.abs(np.asarray(project(primal, [first])) - golden["projected1"]).max() <= 1e-6
    assert np.abs(np.asarray(project(primal, [first, second])) - golden["projected2"]).max() <= 1e-6


def test_walks_are_interfacegans(golden: dict[str, np.ndarray]) -> None:
    w, ws, normal = golden["code"], golden["code_wplus"], golden["primal"]
    assert np.abs(walk(w, normal, -3, 3, 7) - golden["walk"]).max() <= 1e-6
    assert np.abs(walk(ws, normal, -3, 3, 7) - golden["walk_wplus"]).max() <= 1e-6
    own = Boundary("a", torch.from_numpy(normal[0]), 0.0, 1.0)
    assert np.abs(walk(torch.from_numpy(w), own, -3, 3, 7).numpy() - golden["walk"]).max() <= 1e-6


# Projection and walks of our own


def test_any_number_of_conditions() -> None:
    conditions = units(5, seed=1)
    result = project(units(1), conditions)
    assert result.shape == (1, 512)
    assert float(result.norm()) == pytest.approx(1, abs=1e-6)
    assert (conditions @ result[0]).abs().max() < 1e-6
    # Conditions that depend on each other are no more than those that do not.
    doubled = torch.cat([conditions, conditions.sum(0, keepdim=True)])
    assert torch.allclose(project(units(1), doubled), result, atol=1e-5)
    assert torch.allclose(project(units(1), []), units(1))


def test_nothing_left() -> None:
    with pytest.raises(ValueError, match="nothing of it is left"):
        project(units(1), units(1))


def test_both_meanings_of_a_walk() -> None:
    one = Boundary("a", units(1)[0], intercept=2.0, std=1.5)
    w = torch.randn(1, 512, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(one.distance(walk(w, one, -2, 2, 5)), torch.linspace(-2, 2, 5), atol=1e-5)
    offsets = walk(w, one, -2, 2, 5, meaning="offset")
    assert torch.allclose(one.distance(offsets) - one.distance(w), torch.linspace(-2, 2, 5), atol=1e-5)
    ws = torch.randn(1, 8, 512, generator=torch.Generator().manual_seed(3))
    distances = walk(ws, one, -2, 2, 5, meaning="distance")
    assert torch.allclose(one.distance(distances), torch.linspace(-2, 2, 5)[:, None].expand(5, 8), atol=1e-5)


# Steps and styles


def stepped(generator: MobileStyleGAN) -> Boundary:
    steps = torch.randn(generator.num_ws, 512, generator=torch.Generator().manual_seed(4))
    return Boundary(
        "smile",
        units(1)[0],
        0.5,
        2.0,
        generator=generator.name,
        fingerprint=generator.fingerprint,
        w_space=generator.w_space,
        steps=steps,
        layer_resolutions=generator.layer_resolutions,
        styles={"b8.conv1": torch.arange(8.0)},
    )


def test_steps_and_styles_round_trip(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    path, made = tmp_path / "smile.boundary.safetensors", stepped(tiny_generator)
    made.save(path)
    read = load_boundary(path, tiny_generator)
    assert torch.equal(read.steps, made.steps)
    assert torch.equal(read.styles["b8.conv1"], made.styles["b8.conv1"])
    assert read.layer_resolutions == tiny_generator.layer_resolutions
    # A facelatent that knows only format 1 must not take the normal for the edit.
    assert b'"format":"2"' in path.read_bytes().replace(b" ", b"")


def test_damaged_steps(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    path = tmp_path / "a.boundary.safetensors"
    replace(stepped(tiny_generator), layer_resolutions=(4, 8)).save(path)
    with pytest.raises(InvalidFile, match="do not fit together"):
        Boundary.load(path)


def test_steps_move_each_layer_by_its_own(tiny_generator: MobileStyleGAN) -> None:
    ws, one = torch.zeros(1, 8, 512), stepped(tiny_generator)
    assert torch.allclose(edit(ws, one, 2.0)[0], 2 * one.steps)
    assert torch.equal(edit(ws, one, 2.0, [3])[0, 4], ws[0, 4])
    with pytest.raises(IncompatibleLatent, match="moves 8 layers and the codes have 6"):
        edit(torch.zeros(1, 6, 512), one, 1.0)


def test_steps_carry_over_by_resolution(tiny_generator: MobileStyleGAN) -> None:
    wider = make_tiny_generator(channels=(32, 32, 32))
    fitted = stepped(tiny_generator).fitted_to(wider)
    assert wider.layer_resolutions == (4, 8, 8, 16, 16, 32)
    assert torch.equal(fitted.steps, stepped(tiny_generator).steps[:6])


def test_styles_belong_to_one_generator(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    path = tmp_path / "a.boundary.safetensors"
    replace(stepped(tiny_generator), fingerprint="other").save(path)
    with pytest.raises(IncompatibleLatent, match="changes channels"):
        load_boundary(path, tiny_generator)


def test_style_edits_are_drawn(tiny_generator: MobileStyleGAN) -> None:
    one = replace(stepped(tiny_generator), steps=None)
    ws = tiny_generator.broadcast(tiny_generator.sample_w(1))
    assert torch.equal(edit(ws, one, 2.0), ws)
    shift = style_shift([(one, 2.0), (one, -0.5)])
    assert torch.allclose(shift["b8.conv1"], 1.5 * one.styles["b8.conv1"])
    plain, moved = (draw_edited(tiny_generator, ws, part, 32) for part in ({}, shift))
    assert plain.shape == moved.shape == (1, 3, 32, 32)
    assert not torch.allclose(plain, moved, atol=1e-2)


def test_holding_makes_steps_orthogonal(tiny_generator: MobileStyleGAN) -> None:
    others = [Boundary(str(index), normal, 0.0, 1.0) for index, normal in enumerate(units(3, seed=9))]
    result = held(stepped(tiny_generator), others)
    normals = torch.stack([other.normal for other in others])
    assert (normals @ result.normal).abs().max() < 1e-6
    assert (result.steps @ normals.T).abs().max() < 1e-4


# What other projects publish


def test_interfacegan_and_stylegan3_editing(
    tmp_path: Path, tiny_generator: MobileStyleGAN, caplog: pytest.LogCaptureFixture
) -> None:
    np.save(tmp_path / "age_boundary.npy", units(1).numpy())
    with caplog.at_level(logging.WARNING):
        one = load_boundary(tmp_path / "age_boundary.npy", tiny_generator)
    assert (one.attribute, one.generator, caplog.text) == ("age", "tiny-0", "")
    assert torch.allclose(one.normal, units(1)[0], atol=1e-6)
    assert one.std == pytest.approx(tiny_generator.std_along(one.normal))
    assert load_boundary(tmp_path / "age_boundary.npy").std == 1
    np.save(tmp_path / "stylegan_ffhq_age_w_boundary.npy", units(1).double().numpy())
    with caplog.at_level(logging.WARNING):
        load_boundary(tmp_path / "stylegan_ffhq_age_w_boundary.npy", tiny_generator)
    assert "StyleGAN1" in caplog.text


@pytest.mark.parametrize("shape", [(1, 18, 512), (18, 512)])
def test_e4e_pose(tmp_path: Path, tiny_generator: MobileStyleGAN, shape: tuple[int, ...]) -> None:
    torch.save(units(18).reshape(shape), tmp_path / "pose.pt")
    one = load_boundary(tmp_path / "pose.pt")
    assert torch.allclose(one.steps, units(18), atol=1e-6)
    assert one.layer_resolutions == (4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024, 1024)
    fitted = load_boundary(tmp_path / "pose.pt", tiny_generator)
    assert torch.allclose(fitted.steps, units(18)[:8] * fitted.std, atol=1e-5)


def test_ganspace(tmp_path: Path) -> None:
    mean, deviations = torch.randn(1, 512), torch.tensor([3.0, 2.0])
    components = units(2).reshape(2, 1, 512)
    torch.save({"comp": components, "mean": mean, "std": deviations}, tmp_path / "pca.pt")
    one = load_boundary(f"{tmp_path}/pca.pt#1")
    w = torch.randn(1, 512)
    # e4e's edit: the coordinate of a code becomes the strength.
    coordinate = (w - mean) @ components[1, 0] / deviations[1]
    expected = w + (5 - coordinate) * components[1, 0] * deviations[1]
    assert torch.allclose(walk(w, one, 5, 5, 1), expected, atol=1e-4)
    assert published_names(tmp_path / "pca.pt") == [f"{tmp_path}/pca.pt#0", f"{tmp_path}/pca.pt#1"]
    with pytest.raises(InvalidFile, match="2 components"):
        load_boundary(f"{tmp_path}/pca.pt#2")


def test_npz_by_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", smile=units(1).numpy(), age=units(1, 1).numpy())
    assert load_boundary(f"{tmp_path}/all.npz#age").attribute == "age"
    with pytest.raises(InvalidFile, match=r"holds smile, age; name one: .*all\.npz#smile"):
        load_boundary(tmp_path / "all.npz")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt", "evil.pt", "evil.npy", "shape.npy", "nan.npy", "gone.pt"])
def test_what_is_no_direction(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    if name.startswith("a."):
        path.write_bytes(b"not at all")
    elif name == "evil.pt":
        torch.save(Evil(), path)
    elif name == "evil.npy":
        np.save(path, np.array([Evil()]), allow_pickle=True)
    elif name != "gone.pt":
        np.save(path, np.full((1, 512), np.nan) if name == "nan.npy" else np.zeros((2, 3, 4, 5)))
    with pytest.raises(InvalidFile):
        load_boundary(path)
    assert capsys.readouterr().out == ""


def test_huge_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", smile=np.zeros((9 << 20, 1)))
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 20
    with pytest.raises(InvalidFile, match="unpacks to more"):
        load_boundary(tmp_path / "bomb.npz")
    with open(tmp_path / "large.npy", "wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(InvalidFile, match="65 MiB"):
        load_boundary(tmp_path / "large.npy")


# Fitting


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    ws = (random.normal(size=(count, 64)) * random.uniform(0.5, 2, 64) + 3).astype(np.float32)
    return ws, ws[:, 0] - ws[:, 1] + random.normal(size=count)


def test_svm_is_scikit_learns() -> None:
    ws, scores = samples(3000)
    one = fit_boundary(ws, scores, ratio=0.3, c=0.01, bootstrap=0)
    order = np.argsort(scores, kind="stable")
    random = np.random.default_rng(0)
    low, high = random.permutation(order[:900])[:630], random.permutation(order[-900:])[:630]
    train = np.concatenate([low, high])
    x = (ws[train] - ws[train].mean(0)) / (ws[train] - ws[train].mean(0)).std()
    svm = LinearSVC(C=0.01, tol=1e-8, max_iter=100_000).fit(x, np.repeat([False, True], 630))
    normal = svm.coef_[0] / np.linalg.norm(svm.coef_)
    assert one.normal.numpy() @ normal > 1 - 1e-6


def test_regression() -> None:
    ws, scores = samples(3000)
    one = fit_boundary(ws, scores, ratio=0.1, method="ridge")
    assert one.report["method"] == "ridge"
    # 70 % of the extremes and of the codes between them.
    assert (one.report["train"], one.report["held_out"], one.report["remaining"]) == (2100, 180, 720)
    assert float(one.normal[0] - one.normal[1]) > 1.3
    assert one.report["auc_held_out"] > 0.98
    with pytest.raises(ValueError, match="method must be"):
        fit_boundary(ws, scores, method="forest")  # type: ignore[arg-type]


def test_report_tells_stability_and_cosines() -> None:
    ws, scores = samples(3000)
    first = fit_boundary(ws, scores, ratio=0.1)
    report = fit_boundary(ws, -scores, ratio=0.1, known={"first": first}, bootstrap=2).report
    assert report["cosines"]["first"] == pytest.approx(-1, abs=0.1)
    assert 0.8 < report["bootstrap_cosine"] < 1
    chance = fit_boundary(ws, np.random.default_rng(1).normal(size=3000), ratio=0.1).report
    assert chance["bootstrap_cosine"] < report["bootstrap_cosine"]
    assert chance["auc_all_held_out"] == pytest.approx(0.5, abs=0.08)
