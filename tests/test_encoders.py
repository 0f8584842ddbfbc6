"""The public encoders against the public systems' codes, and the files that they come in."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import checkpoint_files as files
import numpy as np
import pytest
import torch
from goldens.fill import fill, normal
from torch import Tensor, nn

import facelatent
from facelatent.errors import FacelatentError, IncompatibleLatent, UnsafeCheckpoint, UnsupportedCheckpoint
from facelatent.inversion import load_encoder
from facelatent.inversion.encoders import (
    ArcFace,
    E4eEncoder,
    Encoder,
    EncoderBundle,
    Home,
    PspEncoder,
    WEncoder,
    WPlusEncoder,
    encoder_kind,
    heads,
    irse,
    reading,
    resized,
)
from facelatent.inversion.encoders.weights import load_network, read_tensors
from facelatent.stylegan_ops import StyleGAN2Config, load_generator

GOLDENS = Path(__file__).parent / "goldens"
#: Of the output's standard deviation; the largest difference found is 2e-6.
BAR = 1e-4
#: 32 px, with codes as wide as the tiny encoders give.
CONFIG = StyleGAN2Config((6, 5, 4, 3), z_dim=64, w_dim=64, mapping_layers=2)
LAYERS = 2 * len(CONFIG.channels)
CLASSES = {"psp": "GradualStyleEncoder", "e4e": "Encoder4Editing", "w": "BackboneEncoderUsingLastLayerIntoW"}

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def filled(name: str) -> State:
    stored = json.loads((GOLDENS / f"{name}.shapes.json").read_text())
    shapes = {key: tuple(shape) for key, shape in stored["shapes"].items()}
    values = fill(shapes, equalized=False, bn=frozenset(stored["bn"]), prelu=frozenset(stored["prelu"]))
    return {key: torch.from_numpy(value) for key, value in values.items()}


def outputs(name: str) -> dict[str, Tensor]:
    with np.load(GOLDENS / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def difference(found: Tensor, golden: Tensor) -> float:
    assert found.shape == golden.shape
    return float((found - golden).abs().max() / golden.std())


def picture(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(normal(name, shape)).clamp(-1, 1)


def test_pyramids_match_psp_and_e4e() -> None:
    # Their tensors have the same names and shapes, so the rule gives both the same 267 million values.
    shapes = [(GOLDENS / f"{kind}_encoder_1024.shapes.json").read_text() for kind in ("psp", "e4e")]
    assert shapes[0] == shapes[1]
    images = picture("image256", 1, 3, 256, 256)
    psp = load_network(lambda: PspEncoder(18), filled("psp_encoder_1024"), "golden")
    assert difference(psp(images), outputs("psp_encoder_1024")["codes"]) <= BAR
    e4e = load_network(lambda: E4eEncoder(18), psp.state_dict(), "golden")
    golden = outputs("e4e_encoder_1024")
    for stage, name in ((0, "WTraining"), (3, "Delta3Training"), (18, "Inference"), (None, "Inference")):
        e4e.stage = stage
        assert difference(e4e(images), golden[f"codes_{name}"]) <= BAR, name
    assert difference(psp(images), golden["codes_Inference"]) > 0.1


def test_w_encoder_matches_psp() -> None:
    encoder = load_network(WEncoder, filled("w_encoder"), "golden")
    found = encoder(picture("image256", 1, 3, 256, 256))
    assert difference(found, outputs("w_encoder")["codes"]) <= BAR


def test_arcface_matches() -> None:
    network = load_network(ArcFace, filled("arcface_irse50"), "golden")
    found = network(picture("face112", 2, 3, 112, 112))
    assert difference(found, outputs("arcface_irse50")["embedding"]) <= BAR


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: PspEncoder(18), "psp_encoder_1024"),
        (lambda: E4eEncoder(18), "e4e_encoder_1024"),
        (WEncoder, "w_encoder"),
        (ArcFace, "arcface_irse50"),
    ],
)
def test_names_and_shapes_are_the_public_ones(make: Callable[[], nn.Module], name: str) -> None:
    with torch.device("meta"):
        found = {key: list(value.shape) for key, value in make().state_dict().items()}
    assert found == json.loads((GOLDENS / f"{name}.shapes.json").read_text())["shapes"]


# From here on the networks are tiny: as deep as the real ones, and narrow.


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(irse, "_STAGES", ((3, 16), (4, 32), (14, 48), (3, 64)))
    monkeypatch.setattr(heads, "TAP_CHANNELS", (32, 48, 64))
    monkeypatch.setattr(heads, "WIDTH", 64)
    monkeypatch.setattr(reading, "WIDTH", 64)


def network(kind: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = {
        "psp": lambda: PspEncoder(LAYERS),
        "e4e": lambda: E4eEncoder(LAYERS),
        "w": WEncoder,
        "wplus": lambda: WPlusEncoder(LAYERS),
    }[kind]()
    return made.eval()


def contents(kind: str = "psp", **changes: Any) -> dict[str, Any]:
    """What a public file of a tiny encoder holds; ``changes`` replace options, None removes them."""
    bundle = files.encoder_bundle(CONFIG)
    state = {key: value for key, value in bundle["state_dict"].items() if key.startswith("decoder.")}
    state |= {f"encoder.{key}": value for key, value in network(kind).state_dict().items()}
    size = {"stylegan_size": 32} if kind == "e4e" else {"output_size": 32}
    options = {"encoder_type": CLASSES.get(kind), "start_from_latent_avg": True, "device": "cuda:0", **size, **changes}
    return {**bundle, "state_dict": state, "opts": {key: value for key, value in options.items() if value is not None}}


def written(folder: Path, value: Any) -> Path:
    path = folder / "bundle.pt"
    torch.save(value, path)
    return path


IMAGES = picture("face", 2, 3, 256, 256)


@cache
def mean() -> Tensor:
    return files.average(CONFIG)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kind", ["psp", "e4e", "w"])
def test_a_public_file_is_read_whole(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, contents(kind))
    encoder = facelatent.load_encoder(path, device="cpu")
    assert isinstance(encoder, EncoderBundle) and isinstance(encoder, Encoder)
    assert (encoder.kind, encoder.num_ws, encoder.input_side, encoder.name) == (kind, LAYERS, 256, "bundle")
    codes = network(kind)(IMAGES)
    wanted = (codes[:, None] if kind == "w" else codes) + mean()
    found = encoder.encode(IMAGES)
    assert found.shape == (2, LAYERS, 64)
    assert torch.allclose(found, wanted.expand(-1, LAYERS, -1), atol=1e-5)
    # The decoder is the generator that load_generator reads from the same file.
    assert encoder.generator is not None
    assert encoder.generator_fingerprint == load_generator(path, device="cpu").fingerprint
    assert not any(value.requires_grad for value in encoder.parameters())
    assert not encoder.training


@pytest.mark.usefixtures("tiny")
def test_e4e_is_told_from_psp_by_options_alone(tmp_path: Path) -> None:
    value = contents("psp")
    psp = load_encoder(written(tmp_path, value), device="cpu")
    value["opts"] = {"encoder_type": "Encoder4Editing", "stylegan_size": 32, "start_from_latent_avg": True}
    e4e = load_encoder(written(tmp_path, value), device="cpu")
    assert (psp.kind, e4e.kind) == ("psp", "e4e")
    absolute, offsets = psp.encode(IMAGES) - mean(), e4e.encode(IMAGES) - mean()
    assert torch.allclose(offsets[:, :1], absolute[:, :1], atol=1e-5)
    assert torch.allclose(offsets[:, 1:], absolute[:, :1] + absolute[:, 1:], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"encoder_type": "GradualStyleEncoder", "stylegan_size": 1024}, "psp"),
        ({"encoder_type": "Encoder4Editing", "output_size": 1024}, "e4e"),
        ({"encoder_type": "BackboneEncoderUsingLastLayerIntoWPlus"}, "wplus"),
        ({"encoder_type": "SingleStyleCodeEncoder"}, "w"),
        ({"stylegan_size": 1024}, "e4e"),
        ({"output_size": 1024}, "psp"),
        ({"encoder_type": "ProgressiveBackboneEncoder", "output_size": 1024}, None),
        ({"encoder_type": ["GradualStyleEncoder"]}, None),
        ({}, None),
    ],
)
def test_kinds_by_options(options: dict[str, Any], kind: str | None) -> None:
    assert encoder_kind(options) == kind


@pytest.mark.usefixtures("tiny")
def test_old_options_are_enough(tmp_path: Path) -> None:
    value = contents("psp", output_size=None, start_from_latent_avg=None)
    value["opts"] = Namespace(**value["opts"])
    assert load_encoder(written(tmp_path, value), device="cpu").kind == "psp"


@pytest.mark.usefixtures("tiny")
def test_without_telling_options_the_user_is_asked(tmp_path: Path) -> None:
    path = written(tmp_path, {**contents("e4e"), "opts": {"device": "cuda"}})
    with pytest.raises(UnsupportedCheckpoint, match="no options that tell pSp from e4e"):
        load_encoder(path, device="cpu")
    assert load_encoder(path, device="cpu", kind="e4e").kind == "e4e"
    with pytest.raises(ValueError, match="unknown kind"):
        load_encoder(path, kind="e5e")  # type: ignore[arg-type]


@pytest.mark.usefixtures("tiny")
def test_the_mean_is_added_as_the_file_says(tmp_path: Path) -> None:
    value = contents("psp")
    with_mean = load_encoder(written(tmp_path, value), device="cpu").encode(IMAGES)
    value["opts"]["start_from_latent_avg"] = False
    without = load_encoder(written(tmp_path, value), device="cpu").encode(IMAGES)
    assert torch.allclose(with_mean - without, mean().expand(2, LAYERS, -1), atol=1e-5)
    assert float((with_mean - without).abs().max()) > 0.1
    value["opts"]["start_from_latent_avg"] = True
    del value["latent_avg"]
    with pytest.raises(UnsupportedCheckpoint, match="no latent_avg"):
        load_encoder(written(tmp_path, value), device="cpu")


def _restyle(value: dict[str, Any]) -> None:
    value["state_dict"]["encoder.input_layer.0.weight"] = torch.zeros(16, 6, 3, 3)


def _cut(value: dict[str, Any]) -> None:
    del value["state_dict"]["encoder.styles.3.linear.bias"]


def _odd_mean(value: dict[str, Any]) -> None:
    value["latent_avg"] = torch.zeros(3, 64)


def _no_encoder(value: dict[str, Any]) -> None:
    for key in [key for key in value["state_dict"] if key.startswith("encoder.")]:
        del value["state_dict"][key]


def _unknown(value: dict[str, Any]) -> None:
    value["opts"]["encoder_type"] = "ResNetEncoder"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_restyle, "6 channels: a ReStyle encoder"),
        (_cut, "1 tensors missing.*styles.3.linear.bias"),
        (_odd_mean, r"latent_avg has shape \[3, 64\]"),
        (_no_encoder, "no encoder in it"),
        (_unknown, "'ResNetEncoder'; say which"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, harm: Callable[[Any], None], message: str) -> None:
    value = contents("psp")
    harm(value)
    path = written(tmp_path, value)
    with pytest.raises(UnsupportedCheckpoint, match=message) as caught:
        load_encoder(path, device="cpu")
    assert str(caught.value).startswith(str(path))


def test_no_code_is_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    path.write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafeCheckpoint, match=r"posix\.system"):
        load_encoder(path)
    with pytest.raises(UnsupportedCheckpoint, match="no such file"):
        load_encoder(tmp_path / "none.pt")


@pytest.mark.usefixtures("tiny")
def test_an_unusable_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(FacelatentError, match="'nonsense' cannot be used"):
        load_encoder(written(tmp_path, contents("w")), device="nonsense")


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kind", ["psp", "e4e", "w"])
def test_saved_and_read_again(tmp_path: Path, kind: str) -> None:
    encoder = load_encoder(written(tmp_path, contents(kind)), device="cpu")
    encoder.save(tmp_path / "mine.safetensors")
    again = load_encoder(tmp_path / "mine.safetensors", device="cpu")
    assert torch.equal(again.encode(IMAGES), encoder.encode(IMAGES))
    assert (again.kind, again.name, again.home) == (encoder.kind, encoder.name, encoder.home)
    assert again.generator is None
    assert {key: value.shape for key, value in again.network.state_dict().items()} == {
        key: value.shape for key, value in encoder.network.state_dict().items()
    }


def test_other_safetensors_are_refused(tiny_generator_file: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=r"not an encoder \(kind 'mobile'\)"):
        load_encoder(tiny_generator_file, device="cpu")


@pytest.mark.usefixtures("tiny")
def test_codes_go_to_their_own_generator(tmp_path: Path, tiny_generator: Any) -> None:
    encoder = load_encoder(written(tmp_path, contents("psp")), device="cpu")
    assert encoder.generator is not None
    assert torch.equal(encoder.encode_for(IMAGES, encoder.generator), encoder.encode(IMAGES))
    with pytest.raises(IncompatibleLatent, match=f"belongs to generator bundle .*not to {tiny_generator.name}"):
        encoder.encode_for(IMAGES, tiny_generator)


def test_one_w_space_shares_codes_by_resolution(tiny_generator: Any) -> None:
    own = tiny_generator.layer_resolutions
    assert own == (4, 8, 8, 16, 16, 32, 32, 64)
    # A StyleGAN2 of the same W space has two more layers at its last resolution.
    larger = Home("other", "0" * 16, tiny_generator.w_space, (*own, 64, 64))
    assert larger.layers_for(tiny_generator, "e") == [0, 1, 2, 3, 4, 5, 6, 9]
    smaller = Home("other", "0" * 16, tiny_generator.w_space, own[:-1])
    with pytest.raises(IncompatibleLatent, match="too few codes for the 64 px layers"):
        smaller.layers_for(tiny_generator, "e")


@pytest.mark.usefixtures("tiny")
def test_pictures_of_any_size(tmp_path: Path) -> None:
    encoder = load_encoder(written(tmp_path, contents("w")), device="cpu")
    large = torch.nn.functional.interpolate(IMAGES, scale_factor=2)
    assert encoder.encode(large).shape == (2, LAYERS, 64)
    assert resized(IMAGES[:, :, :100, :50], 32).shape == (2, 3, 32, 32)
    flat = torch.full((1, 3, 40, 70), 0.25)
    assert torch.allclose(resized(flat, 256), torch.tensor(0.25))
    # Antialiased: 16 pixels of noise are averaged into one, not four.
    noise = torch.from_numpy(normal("noise", (1, 3, 512, 512)))
    assert float(resized(noise, 128).std()) < 0.3
    with pytest.raises(ValueError, match=r"images \[n, 3, H, W\], got \[3, 256, 256\]"):
        encoder.encode(IMAGES[0])


@pytest.mark.usefixtures("tiny")
def test_gradients_reach_the_picture(tmp_path: Path) -> None:
    encoder = load_encoder(written(tmp_path, contents("e4e")), device="cpu")
    with torch.enable_grad():
        image = IMAGES[:1].clone().requires_grad_(True)
        encoder.encode(image).square().sum().backward()
    assert image.grad is not None and float(image.grad.abs().sum()) > 0


@pytest.mark.usefixtures("tiny")
def test_early_stages_compute_no_finer_maps() -> None:
    encoder = network("e4e")
    calls: list[str] = []
    for name in ("latlayer1", "latlayer2"):
        getattr(encoder, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    for stage, wanted in ((0, []), (2, []), (3, ["latlayer1"]), (7, ["latlayer1", "latlayer2"])):
        calls.clear()
        encoder.stage = stage
        codes = encoder(IMAGES[:1])
        assert calls == wanted
        assert codes.shape == (1, LAYERS, 64)
        assert bool((codes[:, stage + 1 :] == codes[:, :1]).all())


@pytest.mark.usefixtures("tiny")
def test_w_plus_from_the_last_map(tmp_path: Path) -> None:
    value = contents("wplus", encoder_type="BackboneEncoderUsingLastLayerIntoWPlus")
    encoder = load_encoder(written(tmp_path, value), device="cpu")
    codes = encoder.encode(IMAGES)
    assert codes.shape == (2, LAYERS, 64)
    assert float((codes[:, 0] - codes[:, 1]).abs().max()) > 1e-3


@pytest.mark.usefixtures("tiny")
def test_files_from_before_batch_counters(tmp_path: Path) -> None:
    state = {key: value for key, value in network("w").state_dict().items() if not key.endswith("tracked")}
    path = tmp_path / "old.pt"
    torch.save({"state_dict": state}, path)
    assert torch.equal(load_network(WEncoder, read_tensors(path), "old")(IMAGES), network("w")(IMAGES))
    torch.save({"epoch": 3}, path)
    with pytest.raises(UnsupportedCheckpoint, match="no state dict in it"):
        read_tensors(path)
