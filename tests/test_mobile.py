"""MobileStyleGAN: against OpenVINO's numbers, its pieces against naive twins, and its files."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from facelatent.errors import FacelatentError, UnsupportedCheckpoint
from facelatent.stylegan_ops import Generator, MobileStyleGAN, inverse_haar, load_generator, save_generator
from facelatent.stylegan_ops.mobile import read_random_face
from facelatent.stylegan_ops.mobile_network import StyledLayer
from facelatent.stylegan_ops.openvino_ir import OpenVinoIR


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def ws(tiny_generator: MobileStyleGAN) -> Tensor:
    return torch.cat([tiny_generator.broadcast(tiny_generator.sample_w(seed)) for seed in (1, 2)])


# Against the public system


@pytest.fixture(scope="module")
def golden(goldens: Path) -> dict[str, Tensor]:
    with np.load(goldens / "mobile_ffhq.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.assets
def test_mapping_matches_openvino(mobile: Generator, golden: dict[str, Tensor]) -> None:
    assert (mobile.mapping(golden["z"]) - golden["w"]).abs().max() < 1e-4


@pytest.mark.assets
def test_images_match_openvino(mobile: Generator, golden: dict[str, Tensor]) -> None:
    images = mobile.synthesis(mobile.broadcast(mobile.mapping(golden["z"])))
    assert images.shape == (2, 3, 1024, 1024)
    assert (images[:, :, 448:576, 448:576] - golden["crop"]).abs().max() < 1e-3
    means = golden["image_mean4"].float()  # stored as float16: half a step is 0.0005 from 1 to 2
    assert (F.avg_pool2d(images, 4) - means).abs().max() < 1e-3
    small = mobile.synthesis(mobile.broadcast(golden["w"]), resolution=256)
    assert (small - means).abs().max() < 1e-3


@pytest.mark.assets
def test_default_generator(mobile: Generator) -> None:
    assert (mobile.name, mobile.resolution, mobile.num_ws) == ("mobile-ffhq-1024", 1024, 16)
    assert mobile.layer_resolutions == (4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 512, 1024)
    assert mobile.w_avg.shape == mobile.w_std.shape == (512,)
    sites = [module.out_features for name, module in mobile.named_modules() if name.endswith(("affine", "up", "o_img"))]
    assert (len(sites), sum(sites)) == (23, 6752)
    assert not any(parameter.requires_grad for parameter in mobile.parameters())


@pytest.mark.assets
def test_default_generator_statistics_are_those_of_its_mapping(mobile: Generator) -> None:
    w = mobile.mapping(normal(4096, 512, seed=9))
    assert torch.allclose(w.mean(0), mobile.w_avg, atol=float(6 * mobile.w_std.max() / 64))
    assert (w.std(0) / mobile.w_std - 1).abs().max() < 0.15
    coordinates = (w - mobile.w_avg) @ mobile.w_components.T
    assert (coordinates[:, :50].std(0) / mobile.w_scales[:50] - 1).abs().max() < 0.1


# The pieces


def naive_inverse_haar(coefficients: np.ndarray) -> np.ndarray:
    n, channels, h, w = coefficients.shape
    c = channels // 4
    out = np.zeros((n, c, 2 * h, 2 * w))
    for i in range(n):
        for k in range(c):
            for y in range(h):
                for x in range(w):
                    ll = coefficients[i, k, y, x]
                    lh, hl, hh = coefficients[i, c + 3 * k : c + 3 * k + 3, y, x]
                    out[i, k, 2 * y, 2 * x] = (ll + lh + hl + hh) / 2
                    out[i, k, 2 * y, 2 * x + 1] = (ll + lh - hl - hh) / 2
                    out[i, k, 2 * y + 1, 2 * x] = (ll - lh + hl - hh) / 2
                    out[i, k, 2 * y + 1, 2 * x + 1] = (ll - lh - hl + hh) / 2
    return out


def test_inverse_haar_matches_a_loop() -> None:
    coefficients = normal(2, 12, 3, 5).double()
    assert np.allclose(inverse_haar(coefficients).numpy(), naive_inverse_haar(coefficients.numpy()), atol=1e-12)


def test_inverse_haar_is_orthonormal() -> None:
    matrix = inverse_haar(torch.eye(48, dtype=torch.float64).reshape(48, 12, 2, 2)).reshape(48, 48)
    assert torch.allclose(matrix @ matrix.T, torch.eye(48, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("separable", [True, False])
def test_styled_layer_matches_its_equation(separable: bool) -> None:
    layer = StyledLayer(w_dim=6, inputs=4, outputs=5, side=8, separable=separable).double()
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = normal(*parameter.shape, seed=index).double()
    layer.noise = normal(1, 1, 8, 8, seed=99).double()
    x, w = normal(2, 4, 8, 8, seed=50).double(), normal(2, 6, seed=51).double()
    style = w @ layer.affine.weight.T + layer.affine.bias
    # A depthwise kernel [in, 1, 3, 3] and a pointwise one [out, in, 1, 1] make a dense kernel [out, in, 3, 3].
    kernel = layer.weight * layer.depthwise[:, 0] if separable else layer.weight
    for index in range(2):
        modulated = kernel * style[index][None, :, None, None]
        padded = F.pad(x[index], (1, 1, 1, 1))
        expected = torch.zeros(5, 8, 8, dtype=torch.float64)
        for dy in range(3):
            for dx in range(3):
                patch = padded[:, dy : dy + 8, dx : dx + 8]
                expected += torch.einsum("oi,ihw->ohw", modulated[:, :, dy, dx], patch)
        expected = expected + layer.noise[0] + layer.bias[:, None, None]
        expected = torch.where(expected > 0, expected, 0.2 * expected)
        assert torch.allclose(layer(x, w, "const")[index], expected, atol=1e-10)


def test_mapping_ignores_the_length_of_z(tiny_generator: MobileStyleGAN) -> None:
    z = normal(3, 512)
    assert torch.allclose(tiny_generator.mapping(z), tiny_generator.mapping(5 * z), atol=1e-5)


# The generator interface


def test_interface(tiny_generator: MobileStyleGAN) -> None:
    assert (tiny_generator.resolution, tiny_generator.num_ws) == (64, 8)
    assert tiny_generator.layer_resolutions == (4, 8, 8, 16, 16, 32, 32, 64)
    w = tiny_generator.mapping(normal(3, 512))
    assert w.shape == (3, 512)
    codes = tiny_generator.broadcast(w)
    assert codes.shape == (3, 8, 512)
    assert torch.equal(codes, w[:, None].repeat(1, 8, 1))
    assert tiny_generator.synthesis(codes).shape == (3, 3, 64, 64)


def test_layers_between(tiny_generator: MobileStyleGAN) -> None:
    assert tiny_generator.layers_between(4, 64) == list(range(8))
    assert tiny_generator.layers_between(8, 16) == [1, 2, 3, 4]
    assert tiny_generator.layers_between(64, 1024) == [7]
    assert tiny_generator.layers_between(5, 7) == []


def test_fixture_draws_varied_pictures(tiny_generator: MobileStyleGAN, ws: Tensor) -> None:
    images = tiny_generator.synthesis(ws)
    assert 0.1 < images.std() < 1
    assert (images[0] - images[1]).std() > 0.1


def test_each_picture_of_a_batch_is_its_own(tiny_generator: MobileStyleGAN, ws: Tensor) -> None:
    images = tiny_generator.synthesis(ws)
    for index in range(2):
        assert torch.allclose(tiny_generator.synthesis(ws[index : index + 1])[0], images[index], atol=1e-5)


def test_gradients_reach_every_layer(tiny_generator: MobileStyleGAN, ws: Tensor) -> None:
    for resolution in (64, 32, 16):
        codes = ws.clone().requires_grad_()
        tiny_generator.synthesis(codes, resolution=resolution).square().mean().backward()
        assert codes.grad is not None
        assert torch.isfinite(codes.grad).all()
        assert (codes.grad.flatten(2).norm(dim=2) > 1e-6).all()


@pytest.mark.assets
def test_gradients_reach_every_layer_of_the_default_generator(mobile: Generator) -> None:
    codes = mobile.broadcast(mobile.sample_w(3, 0.7)).clone().requires_grad_()
    mobile.synthesis(codes).square().mean().backward()
    assert codes.grad is not None
    assert torch.isfinite(codes.grad).all()
    assert (codes.grad[0].norm(dim=1) > 1e-6).all()


def test_gradient_is_that_of_finite_differences() -> None:
    generator = MobileStyleGAN("toy", (8, 8, 8), dim=8).double()
    for index, value in enumerate(generator.state_dict().values()):
        value.copy_(normal(*value.shape, seed=index) * 0.5 + 0.1)
    codes = normal(1, generator.num_ws, 8, seed=77).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda codes: generator.synthesis(codes).mean((2, 3)), codes, atol=1e-6)


@pytest.mark.parametrize("resolution", [32, 16, 4, 1])
def test_smaller_pictures_are_area_means(tiny_generator: MobileStyleGAN, ws: Tensor, resolution: int) -> None:
    full = tiny_generator.synthesis(ws)
    small = tiny_generator.synthesis(ws, resolution=resolution)
    assert small.shape == (2, 3, resolution, resolution)
    assert torch.allclose(small, F.avg_pool2d(full, 64 // resolution), atol=1e-5)
    assert torch.equal(tiny_generator.synthesis(ws, resolution=64), full)


@pytest.mark.assets
def test_smaller_pictures_of_the_default_generator_are_area_means(mobile: Generator) -> None:
    codes = mobile.broadcast(mobile.sample_w(5))
    full = mobile.synthesis(codes)
    for resolution in (512, 256):
        small = mobile.synthesis(codes, resolution=resolution)
        assert torch.allclose(small, F.avg_pool2d(full, 1024 // resolution), atol=1e-4)


@pytest.mark.parametrize("resolution", [0, -64, 48, 63, 65, 128, 256])
def test_impossible_resolution(tiny_generator: MobileStyleGAN, ws: Tensor, resolution: int) -> None:
    with pytest.raises(ValueError, match=f"64 divided by a power of two, got {resolution}"):
        tiny_generator.synthesis(ws, resolution=resolution)


def test_noise_modes(tiny_generator: MobileStyleGAN, ws: Tensor) -> None:
    const = tiny_generator.synthesis(ws)
    assert torch.equal(const, tiny_generator.synthesis(ws, noise="const"))
    none = tiny_generator.synthesis(ws, noise="none")
    assert torch.equal(none, tiny_generator.synthesis(ws, noise="none"))
    torch.manual_seed(1)
    first = tiny_generator.synthesis(ws, noise="random")
    second = tiny_generator.synthesis(ws, noise="random")
    torch.manual_seed(1)
    assert torch.equal(first, tiny_generator.synthesis(ws, noise="random"))
    for one, other in ((const, none), (const, first), (first, second), (first, none)):
        assert 1e-3 < (one - other).std() < 0.5 * const.std()
    strength = (first - none).std() / (const - none).std()
    assert 0.7 < strength < 1.4


def test_no_noise_is_noise_of_zero(tiny_generator: MobileStyleGAN, ws: Tensor) -> None:
    silent = copy.deepcopy(tiny_generator)
    for name, buffer in silent.named_buffers():
        if name.endswith("noise"):
            buffer.zero_()
    assert torch.equal(silent.synthesis(ws), tiny_generator.synthesis(ws, noise="none"))


# Truncation, sampling, statistics


def test_truncation(tiny_generator: MobileStyleGAN, ws: Tensor) -> None:
    average = tiny_generator.w_avg
    assert torch.allclose(tiny_generator.truncate(ws, 1), ws, atol=1e-6)
    assert torch.allclose(tiny_generator.truncate(ws, 0), average.expand_as(ws))
    assert torch.allclose(tiny_generator.truncate(ws, 1.5) - average, 1.5 * (ws - average), atol=1e-5)
    assert torch.allclose(tiny_generator.truncate(ws[:, 0], 0.5), (ws[:, 0] + average) / 2, atol=1e-6)


@pytest.mark.parametrize("cutoff", [0, 3, 8, 20])
def test_truncation_with_a_cutoff(tiny_generator: MobileStyleGAN, ws: Tensor, cutoff: int) -> None:
    result = tiny_generator.truncate(ws, 0.5, cutoff)
    assert result.shape == ws.shape
    assert torch.equal(result[:, :cutoff], tiny_generator.truncate(ws, 0.5)[:, :cutoff])
    assert torch.equal(result[:, cutoff:], ws[:, cutoff:])


def test_a_seed_means_one_face(tiny_generator: MobileStyleGAN) -> None:
    state = torch.get_rng_state()
    w = tiny_generator.sample_w(42)
    assert torch.equal(torch.get_rng_state(), state)
    torch.randn(7)
    assert torch.equal(tiny_generator.sample_w(42), w)
    assert w.shape == (1, 512)
    assert (tiny_generator.sample_w(43) - w).norm() > 1
    assert torch.equal(tiny_generator.sample_w(42, psi=0.5), tiny_generator.truncate(w, 0.5))


def test_statistics(tiny_generator: MobileStyleGAN) -> None:
    components, scales = tiny_generator.w_components, tiny_generator.w_scales
    assert torch.allclose(components @ components.T, torch.eye(512), atol=1e-5)
    assert (scales.diff() <= 0).all()
    w = torch.cat([tiny_generator.mapping(part) for part in normal(4000, 512, seed=5).split(1000)])
    assert (w.mean(0) - tiny_generator.w_avg).abs().max() < 6 * float(w.std(0).max()) / 2000**0.5
    assert (w.std(0) / tiny_generator.w_std - 1).abs().max() < 0.15
    coordinates = (w - tiny_generator.w_avg) @ components.T
    assert (coordinates[:, :5].std(0) / scales[:5] - 1).abs().max() < 0.15
    # The largest entry of each component is positive: an eigenvector's sign would otherwise be arbitrary.
    assert (components.gather(1, components.abs().argmax(1, keepdim=True)) > 0).all()


# Identity and files


def test_files_keep_every_bit(tiny_generator: MobileStyleGAN, tiny_generator_file: Path, ws: Tensor) -> None:
    loaded = load_generator(tiny_generator_file, device="cpu")
    assert isinstance(loaded, MobileStyleGAN)
    assert (loaded.name, loaded.channels) == (tiny_generator.name, tiny_generator.channels)
    assert not loaded.training
    assert loaded.state_dict().keys() == tiny_generator.state_dict().keys()
    for name, value in tiny_generator.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert torch.allclose(loaded.synthesis(ws), tiny_generator.synthesis(ws), atol=1e-4)


def test_fingerprint_is_of_the_weights_alone(tiny_generator_file: Path, tmp_path: Path) -> None:
    first = load_generator(tiny_generator_file, device="cpu")
    fingerprint = first.fingerprint
    assert len(bytes.fromhex(fingerprint)) == 8
    again = load_generator(tiny_generator_file, device="cpu")
    again.name = "another"
    again.w_avg += 1
    assert again.fingerprint == fingerprint
    assert again.to(memory_format=torch.contiguous_format).double().fingerprint == fingerprint
    for name in ("to_img_bias", "blocks.1.conv2.noise", "mapping_network.layers.0.weight"):
        changed = load_generator(tiny_generator_file, device="cpu")
        changed.state_dict()[name].view(-1)[0] += 1e-3
        assert changed.fingerprint != fingerprint, name


def test_fingerprint_of_a_copy_that_was_trained(tiny_generator: MobileStyleGAN) -> None:
    before = tiny_generator.fingerprint
    tuned = copy.deepcopy(tiny_generator)
    tuned.to_img_bias += 0.1
    assert tuned.fingerprint != before


@pytest.mark.assets
def test_fingerprint_of_the_default_generator(mobile: Generator) -> None:
    """Latents and boundaries that users keep record it: a change of it is a breaking one."""
    assert mobile.fingerprint == "d8a8ed51d0c7b28b"


def rewritten(source: Path, target: Path, change: Callable[[dict[str, Tensor], dict[str, str]], object]) -> Path:
    """A copy of a generator file whose tensors and metadata (JSON strings) ``change`` has edited in place."""
    tensors = load_file(source)
    metadata = {"kind": '"mobile"', "name": '"tiny"', "channels": "[32, 32, 32, 32]"}
    change(tensors, metadata)
    save_file(tensors, target, metadata)
    return target


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors, _: tensors.pop("blocks.1.up.bias"), "blocks.1.up.bias"),
        (lambda tensors, _: tensors.update(surprise=torch.ones(1)), "surprise"),
        (lambda tensors, _: tensors.update(to_img_bias=torch.ones(13)), "to_img_bias"),
        (lambda _, metadata: metadata.update(kind='"boundary"'), "kind 'boundary'"),
        (lambda _, metadata: metadata.clear(), "kind None"),
        (lambda _, metadata: metadata.update(channels="[32, 32, 32, 16]"), "blocks.2"),
    ],
    ids=["missing", "unknown", "shape", "kind", "no-metadata", "channels"],
)
def test_wrong_generator_file(
    tiny_generator_file: Path, tmp_path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], object], named: str
) -> None:
    path = rewritten(tiny_generator_file, tmp_path / "wrong.safetensors", change)
    with pytest.raises(UnsupportedCheckpoint) as caught:
        load_generator(path, device="cpu")
    assert named in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("channels", [None, "7", "[]", '["a", "b"]', "[32, 32, 32, -4]"])
def test_odd_channels_in_a_generator_file(tiny_generator_file: Path, tmp_path: Path, channels: str | None) -> None:
    def change(_: dict[str, Tensor], metadata: dict[str, str]) -> None:
        del metadata["channels"]
        metadata.update({"channels": channels} if channels else {})

    path = rewritten(tiny_generator_file, tmp_path / "wrong.safetensors", change)
    with pytest.raises(UnsupportedCheckpoint):
        load_generator(path, device="cpu")


def test_unknown_generator(tmp_path: Path) -> None:
    for name in ("stylegan9", str(tmp_path), tmp_path / "missing.safetensors"):
        with pytest.raises(UnsupportedCheckpoint, match="known: mobile-ffhq-1024"):
            load_generator(name)


def test_file_that_holds_no_tensors(tmp_path: Path) -> None:
    path = tmp_path / "photo.safetensors"
    path.write_bytes(b"\xff\xd8 not tensors at all")
    with pytest.raises(FacelatentError, match=r"photo\.safetensors"):
        load_generator(path)


# OpenVINO files


def ir_xml(layers: str, edges: str = "") -> str:
    return f'<net name="toy" version="10"><layers>{layers}</layers><edges>{edges}</edges></net>'


def const(key: int, name: str = "c", **changes: str) -> str:
    data = {"element_type": "f32", "offset": "0", "shape": "2, 2", "size": "16"} | changes
    attributes = " ".join(f'{attribute}="{value}"' for attribute, value in data.items())
    return f'<layer id="{key}" name="{name}" type="Const" version="opset1"><data {attributes}/></layer>'


def layer(key: int, kind: str) -> str:
    return f'<layer id="{key}" name="n{key}" type="{kind}"/>'


def edge(source: int, target: int, port: int = 0) -> str:
    return f'<edge from-layer="{source}" from-port="0" to-layer="{target}" to-port="{port}"/>'


def write_ir(folder: Path, xml: str, binary: bytes = bytes(64)) -> tuple[Path, Path]:
    (folder / "net.xml").write_text(xml)
    (folder / "net.bin").write_bytes(binary)
    return folder / "net.xml", folder / "net.bin"


def test_reading_an_ir(tmp_path: Path) -> None:
    values = np.arange(8, dtype="<f4")
    halves = np.array([0.5, -2], "<f2")
    layers = (
        const(0, "m.a")
        + const(1, "m.b", offset="16", shape="4")
        + const(2, "x", element_type="f16", offset="32", shape="1,2,1", size="4")
        + const(3, "m.scalar", shape="", size="4", offset="4")
        + layer(4, "Reshape")
        + layer(5, "Convolution")
        + layer(6, "ShapeOf")
        + layer(7, "Add")
    )
    # The convolution reads a computed value on port 0 and the reshaped constant 0 on port 1.
    edges = edge(4, 5, 1) + edge(7, 5, 0) + edge(0, 4) + edge(5, 6) + edge(5, 8) + edge(8, 7, 1)
    graph = OpenVinoIR(
        *write_ir(tmp_path, ir_xml(layers + layer(8, "Relu"), edges), values.tobytes() + halves.tobytes())
    )
    assert graph.types["5"] == "Convolution"
    assert graph.names["0"] == "m.a"
    assert graph.inputs["5"] == ["7", "4"]
    constants = graph.constants("m.")
    assert constants.keys() == {"m.a", "m.b", "m.scalar"}
    assert constants["m.a"].tolist() == [[0, 1], [2, 3]]
    assert constants["m.b"].tolist() == [4, 5, 6, 7]
    assert constants["m.scalar"].shape == ()
    assert graph.constant("2").tolist() == [[[0.5], [-2]]]
    assert graph.constant("2").dtype == np.float16
    weight = graph.constant_input("5")
    assert weight is not None
    assert weight.tolist() == [[0, 1], [2, 3]]
    assert graph.constant_input("7") is None
    assert graph.next_layer("5", "Add") == "7"
    with pytest.raises(UnsupportedCheckpoint, match="no Add follows layer 'n6'"):
        graph.next_layer("6", "Add")


MALFORMED = {
    "text": ("not xml", bytes(64)),
    "empty": ("", bytes(64)),
    "cut": (ir_xml(const(0))[:-9], bytes(64)),
    "entities": ('<!DOCTYPE net [<!ENTITY a "b">]>' + ir_xml(const(0)), bytes(64)),
    "beyond-the-end": (ir_xml(const(0, offset="60")), bytes(64)),
    "before-the-start": (ir_xml(const(0, offset="-16")), bytes(64)),
    "short-bin": (ir_xml(const(0)), bytes(15)),
    "empty-bin": (ir_xml(const(0)), b""),
    "shape": (ir_xml(const(0, shape="3, 3")), bytes(64)),
    "negative-size": (ir_xml(const(0, size="-4", offset="16")), bytes(64)),
    "unknown-type": (ir_xml(const(0, element_type="bf16")), bytes(64)),
    "offset-no-number": (ir_xml(const(0, offset="zero")), bytes(64)),
    "no-data": (ir_xml('<layer id="0" name="c" type="Const"/>'), bytes(64)),
    "no-id": (ir_xml('<layer name="c" type="Const"/>'), bytes(64)),
    "edge-without-port": (ir_xml(const(0), '<edge from-layer="0" to-layer="1"/>'), bytes(64)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_ir(tmp_path: Path, name: str) -> None:
    xml, binary = MALFORMED[name]
    with pytest.raises(UnsupportedCheckpoint):
        OpenVinoIR(*write_ir(tmp_path, xml, binary)).constants()


def test_ir_file_that_is_far_too_large(tmp_path: Path) -> None:
    xml, binary = write_ir(tmp_path, ir_xml(const(0)))
    with open(xml, "ab") as file:
        file.truncate(17 << 20)
    with pytest.raises(UnsupportedCheckpoint, match="too large"):
        OpenVinoIR(xml, binary)


@pytest.fixture
def ir_folder(asset: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the default generator's four OpenVINO files, to be spoilt."""
    folder = tmp_path / "ir"
    shutil.copytree(asset("mobile-ffhq-1024"), folder)
    return folder


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.assets
@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("m.layers.3.up.modulation.bias", "m.layers.3.up.modulation.surprise", "blocks.3.up.surprise"),
        ("m.layers.3.up.modulation.bias", "n.layers.3.up.modulation.bias", "blocks.3.up.bias"),
        ("m.input.input", "m.other", "m.input.input"),
    ],
)
def test_weights_missing_or_unknown_are_named(ir_folder: Path, old: str, new: str, named: str) -> None:
    replace(ir_folder / "SynthesisNetwork.xml", old, new)
    with pytest.raises(UnsupportedCheckpoint) as caught:
        read_random_face(ir_folder, "spoilt")
    assert named in str(caught.value)


@pytest.mark.assets
def test_mapping_network_in_the_place_of_the_other(ir_folder: Path) -> None:
    for ending in ("xml", "bin"):
        shutil.copy(ir_folder / f"SynthesisNetwork.{ending}", ir_folder / f"MappingNetwork.{ending}")
    with pytest.raises(UnsupportedCheckpoint):
        read_random_face(ir_folder, "spoilt")


def test_metadata_is_readable_without_facelatent(tiny_generator_file: Path) -> None:
    data = tiny_generator_file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = {key: json.loads(value) for key, value in header["__metadata__"].items()}
    assert metadata == {"kind": "mobile", "name": "tiny-0", "channels": [32, 32, 32, 32]}


def test_save_is_deterministic(tiny_generator: MobileStyleGAN, tiny_generator_file: Path, tmp_path: Path) -> None:
    save_generator(tiny_generator, tmp_path / "again.safetensors")
    first, second = load_file(tiny_generator_file), load_file(tmp_path / "again.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first.keys() == second.keys()


# Style space


def test_styles_draw_what_their_codes_draw(tiny_generator: MobileStyleGAN) -> None:
    ws = tiny_generator.broadcast(tiny_generator.sample_w(3))
    styles = tiny_generator.styles(ws)
    assert tuple(styles) == tiny_generator.style_names
    assert tiny_generator.style_names[:3] == ("b4.conv1", "b8.up", "b8.conv1")
    assert torch.equal(tiny_generator.draw_styles(styles), tiny_generator.synthesis(ws))
    styles["b8.conv2"] = styles["b8.conv2"] + 1
    assert not torch.allclose(tiny_generator.draw_styles(styles), tiny_generator.synthesis(ws), atol=1e-3)


def test_styles_of_another_size_are_refused(tiny_generator: MobileStyleGAN) -> None:
    styles = tiny_generator.styles(tiny_generator.broadcast(tiny_generator.sample_w(3)))
    styles["b8.conv2"] = styles["b8.conv2"][:, :-1]
    with pytest.raises(ValueError, match=r"b8\.conv2"):
        tiny_generator.draw_styles(styles)
