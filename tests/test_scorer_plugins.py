"""Scorers that come from elsewhere: entry points, ONNX files, CLIP."""

from __future__ import annotations

import importlib.metadata
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from facelatent.boundaries import SCORERS, catalogue, find_scorers, score_faces
from facelatent.boundaries.scorers import FaceScorer, OnnxScorer, OnnxSpec, registry
from facelatent.boundaries.scorers.clip import ClipScorer, import_open_clip, read_prompts
from facelatent.boundaries.scorers.crops import crop
from facelatent.cli import main
from facelatent.errors import InvalidFile, ScorerUnavailable, UnsupportedCheckpoint
from facelatent.faces import Face

FACE = Face((4.0, 4.0, 60.0, 60.0), 1.5, np.random.default_rng(0).uniform(16, 48, (68, 2)))
IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


# Entry points


class Redness:
    """A plug-in as the interface has it at its least: pictures in, numbers out."""

    name = "redness"
    attributes = ("red",)

    def score(self, images: Tensor) -> dict[str, np.ndarray]:
        return {"red": images[:, 0].mean((1, 2)).numpy()}


class Sure(FaceScorer):
    name = "sure"
    attributes = ("surety",)
    source = "a test"

    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        return np.array([[face.score] for face in faces])


def broken() -> None:
    raise RuntimeError("no licence file")


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(**objects: str) -> None:
        points = [
            importlib.metadata.EntryPoint(name, f"{__name__}:{value}", registry.GROUP)
            for name, value in objects.items()
        ]
        monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])

    return install


def test_plug_ins_are_found_and_used(plug_in: Callable[..., None]) -> None:
    plug_in(redness="Redness", sure="Sure")
    known = catalogue()
    assert set(known.scorers) == {one.name for one in SCORERS} | {"redness", "sure"}
    assert not known.broken
    scorers = find_scorers(["red", "sure"])
    scores = score_faces(IMAGES, scorers, [FACE, None, FACE])
    assert scores["red"] == pytest.approx(IMAGES[:, 0].mean((1, 2)).numpy())
    assert scores["surety"][[0, 2]].tolist() == [1.5, 1.5]
    assert np.isnan(scores["surety"][1])


def test_broken_plug_in_spoils_nothing_else(plug_in: Callable[..., None]) -> None:
    plug_in(bad="broken", absent="Missing", nameless="np", twin="SecondAge", sure="Sure")
    known = catalogue()
    assert set(known.scorers) == {one.name for one in SCORERS} | {"sure"}
    assert set(known.broken) == {"bad", "absent", "nameless", "twin"}
    assert "no licence file" in known.broken["bad"]
    assert "facelatent has a scorer 'age' already" in known.broken["twin"]
    with pytest.raises(ScorerUnavailable, match=r"'bad' cannot be loaded from .*no licence file"):
        find_scorers(["bad"])
    result = CliRunner().invoke(main, ["attributes", "scorers"])
    assert result.exit_code == 0
    assert "surety" in result.output
    assert "bad: cannot be loaded" in result.output


class SecondAge(Sure):
    name = "age"


def test_finding() -> None:
    assert [one.name for one in find_scorers(["geometry", "yaw", "happy", "glasses"])] == [
        "geometry",
        "emotion",
        "glasses",
    ]
    with pytest.raises(ScorerUnavailable, match=r"no scorer is called 'hapy'.*did you mean 'happy'"):
        find_scorers(["hapy"])


def test_two_scorers_of_one_attribute(plug_in: Callable[..., None]) -> None:
    plug_in(elders="Elders")
    with pytest.raises(ScorerUnavailable, match="'age' and 'elders' both measure 'age'"):
        find_scorers(["age", "elders"])


class Elders(Sure):
    name = "elders"
    attributes = ("age",)


def test_scorer_that_miscounts() -> None:
    class Short(Sure):
        def score(self, images: Tensor, faces: Any = None) -> dict[str, np.ndarray]:
            return {"surety": np.zeros(2)}

    with pytest.raises(ScorerUnavailable, match=r"'sure' gave \[2\] values of 'surety' for 3 pictures"):
        score_faces(IMAGES, (Short(),), [FACE] * 3)


def test_listing() -> None:
    known = json.loads(CliRunner().invoke(main, ["attributes", "scorers", "--json"]).stdout)
    assert [row["name"] for row in known["scorers"]] == [one.name for one in SCORERS]
    for row in known["scorers"]:
        assert row["source"] and all(row["units"].values()), row["name"]


# ONNX


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def entry(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol-buffer message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def node(kind: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(entry(1, one) for one in inputs) + entry(2, output) + entry(4, kind) + attributes


def value_info(name: str, shape: tuple[int | str, ...], kind: int = 1) -> bytes:
    dims = b"".join(entry(1, entry(2, side) if isinstance(side, str) else entry(1, side)) for side in shape)
    return entry(1, name) + entry(2, entry(1, entry(1, kind) + entry(2, dims)))


def tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(entry(1, side) for side in values.shape)
    return dims + entry(2, 1) + entry(8, name) + entry(9, values.astype("<f4").tobytes())


def make_onnx(path: Path, weights: np.ndarray, shape: tuple[int | str, ...] = ("n", 3, 16, 16)) -> Path:
    """A network: the mean of each channel times ``weights`` [3, classes], as the protocol buffer that ONNX is."""
    axes = entry(5, entry(1, "axes") + entry(8, 2) + entry(8, 3) + entry(20, 7))
    keep = entry(5, entry(1, "keepdims") + entry(3, 0) + entry(20, 2))
    graph = entry(1, node("ReduceMean", ["pictures"], "means", axes + keep))
    graph += entry(1, node("MatMul", ["means", "weights"], "logits")) + entry(2, "graph")
    graph += entry(5, tensor("weights", weights)) + entry(11, value_info("pictures", shape))
    graph += entry(12, value_info("logits", ("n", weights.shape[1])))
    path.write_bytes(entry(1, 8) + entry(7, graph) + entry(8, entry(1, "") + entry(2, 13)))
    return path


def make_spec(path: Path, **changes: object) -> Path:
    spec = {"attributes": {"red": 0, "blue": 2}, "size": 16, "crop": "whole", "source": "a test", **changes}
    path.write_text(json.dumps({key: value for key, value in spec.items() if value is not None}))
    return path


def scores_of(
    tmp_path: Path, images: Tensor = IMAGES, weights: np.ndarray | None = None, **changes: object
) -> dict[str, np.ndarray]:
    make_onnx(tmp_path / "net.onnx", np.eye(3) if weights is None else weights)
    make_spec(tmp_path / "net.json", **changes)
    (scorer,) = find_scorers([tmp_path / "net.onnx"])
    return scorer.score(images, [FACE] * len(images))


def test_onnx_classifier(tmp_path: Path) -> None:
    means = (IMAGES.mean((2, 3)).numpy() + 1) / 2
    scores = scores_of(tmp_path)
    assert scores["red"] == pytest.approx(means[:, 0], abs=0.01)
    assert scores["blue"] == pytest.approx(means[:, 2], abs=0.01)


def test_onnx_feeding(tmp_path: Path) -> None:
    """Each setting changes the numbers as it says."""
    plain = scores_of(tmp_path)
    assert scores_of(tmp_path, channels="bgr")["red"] == pytest.approx(plain["blue"])
    assert scores_of(tmp_path, range=[-1, 1])["red"] == pytest.approx(2 * plain["red"] - 1, abs=1e-6)
    assert scores_of(tmp_path, range=[0, 255])["red"] == pytest.approx(255 * plain["red"], abs=1e-3)
    assert scores_of(tmp_path, mean=[0.5, 0, 0], std=[0.25, 1, 1])["red"] == pytest.approx(
        4 * (plain["red"] - 0.5), abs=1e-5
    )
    sigmoid = scores_of(tmp_path, activation="sigmoid")["red"]
    assert sigmoid == pytest.approx(1 / (1 + np.exp(-plain["red"])), abs=1e-6)
    powers = {name: np.exp(values) for name, values in scores_of(tmp_path, attributes={"a": 0, "b": 1, "c": 2}).items()}
    softmax = scores_of(tmp_path, activation="softmax")["red"]
    assert softmax == pytest.approx(powers["a"] / sum(powers.values()), abs=1e-6)
    weighted = scores_of(tmp_path, attributes={"age": [10, 0, 40]})["age"]
    assert weighted == pytest.approx(10 * plain["red"] + 40 * plain["blue"], abs=1e-4)
    assert scores_of(tmp_path, output="logits")["red"] == pytest.approx(plain["red"])
    assert not np.allclose(scores_of(tmp_path, crop="aligned")["red"], plain["red"])


def test_onnx_with_a_fixed_batch(tmp_path: Path) -> None:
    plain = scores_of(tmp_path)
    make_onnx(tmp_path / "net.onnx", np.eye(3), (1, 3, 16, 16))
    assert OnnxScorer.from_files(tmp_path / "net.onnx").score(IMAGES, [FACE] * 3)["red"] == pytest.approx(plain["red"])


def test_version_follows_the_files(tmp_path: Path) -> None:
    make_onnx(tmp_path / "net.onnx", np.eye(3))
    make_spec(tmp_path / "net.json")
    first = OnnxScorer.from_files(tmp_path / "net.onnx").version
    make_spec(tmp_path / "net.json", channels="bgr")
    assert OnnxScorer.from_files(tmp_path / "net.onnx").version != first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": None}, "'size' is missing"),
        ({"attributes": {}}, "'attributes' is {}; it must be an object"),
        ({"attributes": {"red": -1}}, "'attributes' is"),
        ({"attributes": {"red": True}}, "'attributes' is"),
        ({"size": 4}, "'size' is 4; it must be a side of 8 to 2048"),
        ({"size": "big"}, "'size' is 'big'"),
        ({"mean": [0.5, 0.5]}, "'mean' is .*one number or of 3"),
        ({"std": [0]}, "'std' is .*none of them 0"),
        ({"range": [0]}, "'range' is"),
        ({"crop": "tight"}, "'crop' is 'tight'; it must be one of aligned, chip, whole"),
        ({"activation": "relu"}, "must be one of none, softmax, sigmoid"),
        ({"sizes": 3}, "unknown 'sizes'; known: "),
    ],
)
def test_wrong_specs(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidFile, match=message):
        OnnxSpec.load(make_spec(tmp_path / "net.json", **changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_specs_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "net.json").write_text(text)
    with pytest.raises(InvalidFile, match=r"net\.json"):
        OnnxSpec.load(tmp_path / "net.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 24}, r"net\.onnx takes .*its spec gives it \[1, 3, 24, 24\]"),
        ({"layout": "nhwc"}, "its spec gives it"),
        ({"attributes": {"red": 3}}, "gives 3 values a face; its spec reads 'red' from 4"),
        ({"attributes": {"red": [1, 2]}}, "reads 'red' from 2"),
        ({"output": "scores"}, "has no output 'scores'; it has logits"),
    ],
)
def test_specs_that_do_not_fit(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    """They fail when the file is opened, not after an hour of drawing."""
    make_onnx(tmp_path / "net.onnx", np.eye(3))
    make_spec(tmp_path / "net.json", **changes)
    with pytest.raises(ScorerUnavailable, match=message):
        OnnxScorer.from_files(tmp_path / "net.onnx")


def test_onnx_files_that_are_none(tmp_path: Path) -> None:
    make_spec(tmp_path / "net.json")
    with pytest.raises(ScorerUnavailable, match="does not exist"):
        OnnxScorer.from_files(tmp_path / "net.onnx")
    (tmp_path / "net.onnx").write_bytes(struct.pack(">I", 7) * 20)
    with pytest.raises(ScorerUnavailable, match="onnxruntime cannot load"):
        OnnxScorer.from_files(tmp_path / "net.onnx")
    (tmp_path / "net.json").unlink()
    with pytest.raises(InvalidFile, match="needs a spec"):
        OnnxScorer.from_files(make_onnx(tmp_path / "net.onnx", np.eye(3)))


@pytest.mark.parametrize("kind", ["aligned", "chip", "whole"])
def test_crops(kind: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert crop(pixels, FACE, kind, (24, 32)).shape == (24, 32, 3)


# CLIP


def test_prompts() -> None:
    assert read_prompts(["beard=a man with a beard|a shaved man"]) == {"beard": ("a man with a beard", "a shaved man")}
    for text in ("beard", "beard=a", "=a|b", "beard=|b"):
        with pytest.raises(ScorerUnavailable, match="a pair of prompts reads"):
            read_prompts([text])


def test_missing_open_clip_says_how_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(
        ScorerUnavailable, match=r"open_clip, which is not installed; run: pip install 'facelatent\[clip\]'"
    ):
        ClipScorer(tmp_path / "vit.safetensors", {"beard": ("a beard", "no beard")})


def test_clip_with_random_weights(tmp_path: Path) -> None:
    open_clip = import_open_clip()
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = open_clip.create_model("RN50")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "rn50.safetensors")
    scorer = ClipScorer(tmp_path / "rn50.safetensors", {"a": ("old", "young"), "b": ("young", "old")}, "RN50")
    scores = scorer.score(IMAGES, [FACE, None, FACE])
    assert scores["a"][[0, 2]] == pytest.approx(-scores["b"][[0, 2]], abs=1e-5)
    assert np.isnan(scores["a"][1])
    with pytest.raises(UnsupportedCheckpoint):
        ClipScorer(tmp_path / "rn50.safetensors", {"a": ("old", "young")}, "ViT-B-32")
