"""StyleGAN2 against the public implementations' pictures, and what can be done with it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import checkpoint_files as files
import numpy as np
import pytest
import torch
from goldens.fill import fill, normal
from torch import Tensor

from facelatent.stylegan_ops import MobileStyleGAN, StyleGAN2, StyleGAN2Config, channels_for, same_w_space
from facelatent.stylegan_ops import generator as generator_module
from facelatent.stylegan_ops.backend import Backend
from facelatent.stylegan_ops.checkpoints.layouts import Layout, config_from_shapes, rows, to_facelatent
from facelatent.stylegan_ops.stylegan2 import modulated_conv2d
from facelatent.stylegan_ops.upfirdn2d import setup_filter

GOLDENS = Path(__file__).parent / "goldens"
#: Of the output's standard deviation; the largest difference found is 1.4e-5.
BAR = 1e-4


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def filled(layout: Layout, size: int) -> tuple[StyleGAN2, dict[str, Tensor]]:
    """The network of a golden file, and the file."""
    stored = json.loads((GOLDENS / f"{layout}_g{size}.shapes.json").read_text())
    shapes = {name: tuple(shape) for name, shape in stored.items()}
    ones = frozenset(name for name in shapes if name.endswith(("affine.bias", "modulation.bias")))
    state = {name: torch.from_numpy(value) for name, value in fill(shapes, equalized=True, ones=ones).items()}
    generator = StyleGAN2("golden", config_from_shapes(shapes, layout))
    with np.load(GOLDENS / f"{layout}_g{size}.npz") as arrays:
        golden = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    average = state["mapping.w_avg"] if layout == "nvidia" else golden["latent_avg"][0]
    ours = to_facelatent(state, generator.config, layout)
    missing, unexpected = generator.load_state_dict({**generator.state_dict(), **ours, "w_avg": average})
    assert not missing and not unexpected
    assert len(ours) == len(list(rows(generator.config)))
    return generator.to(memory_format=torch.channels_last), golden


def difference(found: Tensor, golden: Tensor) -> float:
    assert found.shape == golden.shape
    return float((found - golden).abs().max() / golden.std())


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("size", [64, 256])
def test_pictures_match_nvidias(size: int, backend: Backend) -> None:
    generator, golden = filled("nvidia", size)
    generator.backend = backend
    z = golden["z"]
    assert torch.equal(z, torch.from_numpy(normal("z", tuple(z.shape))))
    w = generator.mapping(z)
    ws = generator.broadcast(w)
    assert difference(w, golden["w"]) <= BAR
    truncated = generator.truncate(ws, 0.7)
    assert difference(truncated[:, 0], golden["w_psi07"]) <= BAR
    assert difference(generator.truncate(ws, 0.5, 4)[:, [0, 3, 4, -1]], golden["w_psi05_cut4"]) <= BAR
    assert difference(generator.synthesis(ws, noise="const"), golden["image_const"]) <= BAR
    assert difference(generator.synthesis(truncated, noise="none"), golden["image_none_psi07"]) <= BAR
    wplus = torch.from_numpy(normal("wplus", (len(z), generator.num_ws, 512)))
    assert difference(generator.synthesis(wplus), golden["image_wplus_const"]) <= BAR


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("size", [64, 256])
def test_pictures_match_rosinalitys(size: int, backend: Backend) -> None:
    generator, golden = filled("rosinality", size)
    generator.backend = backend
    ws = generator.broadcast(generator.mapping(golden["z"]))
    assert difference(ws[:, 0], golden["w"]) <= BAR
    assert difference(generator.synthesis(ws), golden["image"]) <= BAR
    assert difference(generator.synthesis(generator.truncate(ws, 0.7)), golden["image_psi07"]) <= BAR
    wplus = torch.from_numpy(normal("wplus", (len(ws), generator.num_ws, 512)))
    assert difference(generator.synthesis(wplus), golden["image_wplus"]) <= BAR


def tiny(config: StyleGAN2Config = files.TINY) -> StyleGAN2:
    generator = StyleGAN2("tiny", config)
    state = to_facelatent(files.nvidia_state(config), config, "nvidia")
    generator.load_state_dict({**generator.state_dict(), **state, "w_avg": files.average(config)})
    return generator


def some_ws(generator: StyleGAN2, count: int = 2) -> Tensor:
    return torch.randn(count, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(3))


def test_the_shape_of_config_f() -> None:
    config = StyleGAN2Config(channels_for(1024))
    assert config.channels == (512, 512, 512, 512, 512, 256, 128, 64, 32)
    with torch.device("meta"):
        generator = StyleGAN2("f", config)
    assert generator.num_ws == 18
    assert sum(p.numel() for p in generator.parameters()) == 30_370_060
    channels = [layer.affine.bias.numel() for _, _, layer in generator.synthesis_network.named_layers()]
    assert len(channels) == 26 and sum(channels) == 9088
    assert generator.layer_resolutions[:4] == (4, 8, 8, 16) and generator.layer_resolutions[-3:] == (1024, 1024, 1024)


def test_modulated_convolution_is_what_the_paper_defines() -> None:
    x, weight, style = torch.randn(3, 5, 6, 6), torch.randn(4, 5, 3, 3), torch.randn(3, 5)
    found = modulated_conv2d(x, weight, style)
    for n in range(3):
        modulated = weight * style[n][None, :, None, None]
        demodulated = modulated / modulated.square().sum((1, 2, 3), keepdim=True).sqrt()
        expected = torch.nn.functional.conv2d(x[n : n + 1], demodulated, padding=1)
        assert torch.allclose(found[n : n + 1], expected, atol=1e-5)


@pytest.mark.parametrize("side", [4, 5, 7])
def test_the_upsampling_convolution_takes_any_size(side: int) -> None:
    x, weight = torch.randn(1, 3, side, side), torch.randn(2, 3, 3, 3)
    found = modulated_conv2d(x, weight, torch.ones(1, 3), setup_filter([1, 3, 3, 1]))
    # Zero-stuff, filter, then a true convolution: the long way round.
    stuffed = torch.zeros(1, 3, 2 * side, 2 * side)
    stuffed[:, :, ::2, ::2] = x
    blur = (setup_filter([1, 3, 3, 1]) * 4).expand(3, 1, 4, 4)
    smooth = torch.nn.functional.conv2d(torch.nn.functional.pad(stuffed, [3, 2, 3, 2]), blur, groups=3)
    demodulated = weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
    assert torch.allclose(found, torch.nn.functional.conv2d(smooth, demodulated.flip(2, 3)), atol=1e-5)


def test_a_batch_draws_what_its_samples_draw() -> None:
    generator = tiny()
    ws = some_ws(generator, 3)
    singly = torch.cat([generator.synthesis(w[None]) for w in ws])
    assert torch.allclose(generator.synthesis(ws), singly, atol=1e-5)


def test_noise_modes_differ_and_only_random_noise_varies() -> None:
    generator = tiny()
    ws = some_ws(generator)
    const, none = generator.synthesis(ws, noise="const"), generator.synthesis(ws, noise="none")
    assert not torch.allclose(const, none, atol=1e-3)
    assert torch.equal(const, generator.synthesis(ws, noise="const"))
    first, second = (generator.synthesis(ws, noise="random") for _ in range(2))
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(first[0], first[1])


def test_truncation_goes_to_the_mean_beyond_it_and_nowhere() -> None:
    generator = tiny()
    ws = some_ws(generator)
    assert torch.equal(generator.truncate(ws, 1), ws)
    mean = generator.synthesis(generator.truncate(ws, 0))
    assert torch.allclose(mean[0], mean[1], atol=1e-5)
    beyond = generator.truncate(ws, 1.5) - generator.w_avg
    assert torch.allclose(beyond, 1.5 * (ws - generator.w_avg), atol=1e-6)
    cut = generator.truncate(ws, 0.5, cutoff=3)
    assert torch.equal(cut[:, 3:], ws[:, 3:]) and not torch.allclose(cut[:, :3], ws[:, :3])


def test_each_layer_of_w_plus_acts_from_its_resolution_on() -> None:
    generator = tiny()
    ws = some_ws(generator, 1)
    original = generator.synthesis(ws)
    for layer in range(generator.num_ws):
        changed = ws.clone()
        changed[:, layer] += 1
        assert not torch.allclose(generator.synthesis(changed), original, atol=1e-4), layer
    last = ws.clone()
    last[:, -1] += 1
    styles, other = generator.styles(ws), generator.styles(last)
    assert [name for name in styles if not torch.equal(styles[name], other[name])] == ["b32.torgb"]


def test_style_space_can_be_read_edited_and_drawn() -> None:
    generator = tiny()
    ws = some_ws(generator)
    styles = generator.styles(ws)
    assert tuple(styles) == generator.style_names
    assert generator.style_names[:3] == ("b4.conv1", "b4.torgb", "b8.conv0")
    assert [style.shape[1] for style in styles.values()] == [6, 6, 6, 5, 5, 5, 4, 4, 4, 3, 3]
    assert torch.equal(generator.draw_styles(styles), generator.synthesis(ws))
    styles["b16.conv1"][:, 2] += 5
    assert not torch.allclose(generator.draw_styles(styles), generator.synthesis(ws), atol=1e-3)
    del styles["b4.torgb"]
    with pytest.raises(ValueError, match=r"b4\.torgb"):
        generator.draw_styles(styles)


def test_smaller_pictures_are_exact_averages() -> None:
    generator = tiny()
    ws = some_ws(generator)
    expected = torch.nn.functional.avg_pool2d(generator.synthesis(ws), 4)
    assert torch.allclose(generator.synthesis(ws, resolution=8), expected)
    with pytest.raises(ValueError, match="power of two"):
        generator.synthesis(ws, resolution=12)


def test_gradients_reach_every_layer_of_w_plus() -> None:
    generator = tiny()
    with torch.enable_grad():
        ws = some_ws(generator).requires_grad_()
        generator.synthesis(ws).square().mean().backward()
    assert ws.grad is not None
    assert (ws.grad.abs().amax(2) > 0).all()
    assert not any(p.requires_grad for p in generator.parameters())


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float16, 0.01), (torch.bfloat16, 0.06)])
def test_half_precision_blocks_draw_nearly_the_same(dtype: torch.dtype, bar: float) -> None:
    generator = tiny()
    ws = some_ws(generator)
    exact = generator.synthesis(ws)
    generator.set_precision(dtype, blocks=2)
    assert [block.dtype for _, block in generator.synthesis_network.resolutions()] == [torch.float32] * 2 + [dtype] * 2
    half = generator.synthesis(ws)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    assert difference(half, exact) < bar
    generator.set_precision(torch.float32)
    assert torch.equal(generator.synthesis(ws), exact)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("layout", ["nvidia", "rosinality"])
def test_pictures_match_on_the_gpu(layout: Layout) -> None:
    """In float32 within the bar of the CPU; half precision within a twentieth."""
    generator, golden = filled(layout, 256)
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        generator = generator.to("cuda")
        ws = generator.broadcast(generator.mapping(golden["z"].to("cuda")))
        expected = golden["image_const" if layout == "nvidia" else "image"]
        assert difference(generator.synthesis(ws).cpu(), expected) <= BAR
        generator.set_precision(torch.float16)
        assert difference(generator.synthesis(ws).cpu(), expected) <= 0.05
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def test_half_precision_survives_weights_and_styles_that_overflow_it() -> None:
    generator = tiny()
    ws = some_ws(generator)
    exact = generator.synthesis(ws)
    for name, _, layer in generator.synthesis_network.named_layers():
        if not name.endswith("torgb"):  # demodulation cancels this scale
            layer.weight.mul_(3e4)
    generator.set_precision(torch.float16)
    assert difference(generator.synthesis(ws), exact) < 0.02


def test_activations_are_clamped_where_the_checkpoint_says_so() -> None:
    generator = tiny()
    ws = some_ws(generator)
    free = generator.synthesis(ws)
    clamped = copy.deepcopy(generator)
    clamped.synthesis_network.clamp = 0.25
    limited = clamped.synthesis(ws)
    # Each block adds at most the clamp to the picture, and enlarging never raises a maximum above that.
    assert float(limited.abs().max()) <= 0.25 * len(files.TINY.channels) + 1e-6 < float(free.abs().max())


def test_classes_are_asked_for_and_matter() -> None:
    config = StyleGAN2Config((4, 4), z_dim=8, w_dim=8, label_dim=3, mapping_layers=2)
    generator = tiny(config)
    z = torch.randn(2, 8)
    first, second = (generator.mapping(z, torch.eye(3)[[k, k]]) for k in (0, 1))
    assert not torch.allclose(first, second)
    with pytest.raises(ValueError, match=r"label \[2, 3\], got none"):
        generator.mapping(z)
    with pytest.raises(ValueError, match=r"got \[2, 2\]"):
        generator.mapping(z, torch.ones(2, 2))
    with pytest.raises(ValueError, match="no classes"):
        tiny().mapping(z, torch.ones(2, 3))
    assert generator.sample_w(1, label=torch.eye(3)[:1]).shape == (1, 8)
    assert torch.isfinite(generator.w_std).all()


def test_the_mapping_of_a_class_condition_follows_the_definition() -> None:
    config = StyleGAN2Config((4, 4), z_dim=8, w_dim=8, label_dim=3, mapping_layers=1)
    generator = tiny(config)
    z, label = torch.randn(2, 8), torch.eye(3)[[0, 2]]
    network = generator.mapping_network
    embedded = label @ network.embed.weight.T / 3**0.5 + network.embed.bias
    parts = [v / (v.square().mean(1, keepdim=True) + 1e-8).sqrt() for v in (z, embedded)]
    layer = network.layers[0]
    linear = torch.cat(parts, 1) @ layer.weight.T * (0.01 / 16**0.5) + layer.bias * 0.01
    expected = torch.nn.functional.leaky_relu(linear, 0.2) * 2**0.5
    assert torch.allclose(generator.mapping(z, label), expected, atol=1e-5)


def test_statistics_are_measured_when_asked_for_and_keep_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_module, "_STATISTICS_SAMPLES", 2048)
    generator = tiny()
    assert not generator.measured
    mean = generator.w_avg.clone()
    assert not torch.equal(generator.w_std, torch.ones(8))
    assert generator.measured
    assert torch.equal(generator.w_avg, mean)
    w = generator.typical_ws(2048)
    assert torch.allclose(generator.w_std, w.std(0), rtol=1e-4)
    along = (w - w.mean(0)) @ generator.w_components.T
    assert torch.allclose(along.std(0), generator.w_scales, rtol=1e-2, atol=1e-4)


def folded(generator: StyleGAN2, channels: tuple[int, ...] = (8, 8, 8)) -> MobileStyleGAN:
    """A MobileStyleGAN with the same mapping network, its learning-rate multiplier folded into the weights."""
    mobile = MobileStyleGAN("mobile", channels, generator.w_dim)
    for ours, theirs in zip(generator.mapping_network.layers, mobile.mapping_network.layers, strict=True):
        theirs.weight.copy_(ours.weight * ours.scale)
        theirs.bias.copy_(ours.bias * ours.rate)
    return mobile


def test_w_spaces_are_known_by_their_mapping_and_not_by_name() -> None:
    config = StyleGAN2Config((4, 4), z_dim=512, w_dim=512)
    generator = tiny(config)
    mobile = folded(generator)
    assert same_w_space(generator.w_space, mobile.w_space)
    other = copy.deepcopy(generator)
    other.synthesis_network.const.add_(1)
    assert other.w_space == generator.w_space
    other.mapping_network.layers[3].weight.mul_(1.02)
    assert not same_w_space(other.w_space, generator.w_space)
    assert not same_w_space(generator.w_space, "")
    assert not same_w_space("not hex", "not hex")


def test_w_space_survives_rounding() -> None:
    generator = tiny(StyleGAN2Config((4, 4), z_dim=512, w_dim=512))
    for step in range(5):
        near = copy.deepcopy(generator)
        for layer in near.mapping_network.layers:
            layer.weight.mul_(1 + 1e-6 * step)
        assert same_w_space(near.w_space, generator.w_space)


def test_the_fingerprint_is_of_the_weights_alone() -> None:
    generator, other = tiny(), tiny()
    assert generator.fingerprint == other.fingerprint
    other.synthesis_network.blocks[1].conv0.noise_strength.add_(1e-3)
    assert generator.fingerprint != other.fingerprint


def test_misspelt_noise_is_refused(tiny_generator) -> None:
    stylegan2 = StyleGAN2("small", StyleGAN2Config(channels_for(16, 64, 8), mapping_layers=1, w_dim=8, z_dim=8))
    for generator, width in ((stylegan2, 8), (tiny_generator, 512)):
        with pytest.raises(ValueError, match="noise must be one of const, random, none, got 'constant'"):
            generator.synthesis(torch.zeros(1, generator.num_ws, width), noise="constant")
