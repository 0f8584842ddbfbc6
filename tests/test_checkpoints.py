"""Every layout that generators are published in opens, draws the same picture, and converts without losing a bit."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_files as files
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import facelatent
from facelatent.errors import UnsupportedCheckpoint, UnwritableOutput
from facelatent.stylegan_ops import (
    StyleGAN2,
    StyleGAN2Config,
    import_generator,
    imported_generators,
    load_generator,
    same_w_space,
    save_generator,
)
from facelatent.stylegan_ops import generator as generator_module
from facelatent.stylegan_ops.checkpoints import convert, inspect_checkpoint, read_checkpoint
from facelatent.stylegan_ops.checkpoints.layouts import to_facelatent


@pytest.fixture(autouse=True)
def isolated_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELATENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(generator_module, "_STATISTICS_SAMPLES", 512)


def torch_bytes(value: Any, old_format: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not old_format)
    return buffer.getvalue()


def snapshot(**extra: Any) -> dict[str, Any]:
    return {"g_ema": files.rosinality_state(), **extra}


#: Every layout: its kind, and a file of it that holds the tiny generator.
LAYOUTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nvidia .pkl": ("nvidia-pickle", lambda: files.nvidia_pickle(files.nvidia_state())),
    "nvidia .pkl, protocol 2": ("nvidia-pickle", lambda: files.nvidia_pickle(files.nvidia_state(), 2)),
    "nvidia .pkl, protocol 3": ("nvidia-pickle", lambda: files.nvidia_pickle(files.nvidia_state(), 3)),
    "nvidia .pkl, protocol 5": ("nvidia-pickle", lambda: files.nvidia_pickle(files.nvidia_state(), 5)),
    "nvidia TensorFlow .pkl": ("nvidia-tensorflow", lambda: files.tensorflow_pickle(files.nvidia_state())),
    "nvidia TensorFlow .pkl, protocol 2": (
        "nvidia-tensorflow",
        lambda: files.tensorflow_pickle(files.nvidia_state(), 2),
    ),
    "rosinality": ("rosinality", lambda: torch_bytes(snapshot(latent_avg=files.average()))),
    "rosinality, old format": ("rosinality", lambda: torch_bytes(snapshot(latent_avg=files.average()), True)),
    "pSp": ("encoder-bundle", lambda: torch_bytes(files.encoder_bundle())),
    "pSp, Namespace": ("encoder-bundle", lambda: torch_bytes(files.encoder_bundle(namespace=True))),
    "pSp, Namespace, old format": ("encoder-bundle", lambda: torch_bytes(files.encoder_bundle(namespace=True), True)),
    "nvidia state dict": ("nvidia-state", lambda: torch_bytes(files.nvidia_state())),
    "nvidia state dict under G_ema": ("nvidia-state", lambda: torch_bytes({"G_ema": files.nvidia_state()})),
}
#: Layouts that have no w_avg.
WITHOUT_AVERAGE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "rosinality training save": ("rosinality", lambda: torch_bytes(snapshot(g={}, d={}, g_optim={}))),
    "NADA": ("adapted", lambda: torch_bytes(snapshot(g_optim={"state": {0: {"step": 3}}}))),
    "rosinality state dict": ("rosinality-state", lambda: torch_bytes(files.rosinality_state())),
    "rosinality state dict under G_ema": (
        "rosinality-state",
        lambda: torch_bytes({"G_ema": files.rosinality_state()}),
    ),
}


def written(tmp_path: Path, content: bytes, name: str = "file.bin") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def state_in_our_names() -> dict[str, Tensor]:
    return to_facelatent(files.nvidia_state(), files.TINY, "nvidia")


def assert_same_bits(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].shape == value.shape, name
        assert state[name].contiguous().numpy().tobytes() == value.contiguous().numpy().tobytes(), name


def picture(generator: Any) -> Tensor:
    with torch.no_grad():
        return generator.synthesis(generator.broadcast(generator.sample_w(1, 0.7)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_opens_and_draws_the_same_picture(layout: str, tmp_path: Path) -> None:
    kind, content = LAYOUTS[layout]
    path = written(tmp_path, content())
    checkpoint = read_checkpoint(path)
    assert checkpoint.kind == kind
    assert checkpoint.missing == ()
    assert checkpoint.config is not None and checkpoint.config.channels == files.TINY.channels
    generator = load_generator(path, device="cpu")
    assert isinstance(generator, StyleGAN2)
    assert torch.equal(generator.w_avg, files.average())
    assert not generator.training and not any(p.requires_grad for p in generator.parameters())
    assert generator.synthesis_network.blocks[1].conv0.weight.is_contiguous(memory_format=torch.channels_last)
    if "TensorFlow" not in layout:  # its modulation biases are stored less 1, which rounds
        ours = {name: value for name, value in generator.state_dict().items() if not name.startswith("w_")}
        assert_same_bits(ours, state_in_our_names())
    reference = written(tmp_path, LAYOUTS["nvidia state dict"][1](), "reference.pt")
    assert torch.allclose(picture(generator), picture(load_generator(reference, device="cpu")), atol=1e-5)


@pytest.mark.parametrize("layout", WITHOUT_AVERAGE)
def test_a_missing_mean_is_named_and_estimated_the_same_each_time(layout: str, tmp_path: Path) -> None:
    kind, content = WITHOUT_AVERAGE[layout]
    path = written(tmp_path, content())
    checkpoint = read_checkpoint(path)
    assert checkpoint.kind == kind
    assert checkpoint.w_avg is None
    assert len(checkpoint.missing) == 1 and "latent_avg" in checkpoint.missing[0]
    first, second = load_generator(path, device="cpu"), load_generator(path, device="cpu")
    assert torch.equal(first.w_avg, second.w_avg)
    w = first.typical_ws(20_000)
    assert float(((first.w_avg - w.mean(0)) / w.std(0)).abs().max()) < 0.05


def test_pictures_match_the_golden_through_a_real_pickle(tmp_path: Path) -> None:
    """NVIDIA's own numbers, its weights read from a persistence pickle on disk."""
    from test_stylegan2 import BAR, GOLDENS, difference, filled

    from facelatent.stylegan_ops.checkpoints.layouts import from_facelatent

    source, golden = filled("nvidia", 64)
    state = from_facelatent(source.state_dict(), source.config, "nvidia") | {"mapping.w_avg": source.w_avg}
    path = written(tmp_path, files.nvidia_pickle(state), "ffhq.pkl")
    generator = facelatent.load_generator(path, device="cpu")
    assert GOLDENS.is_dir()
    ws = generator.broadcast(generator.mapping(golden["z"]))
    assert difference(generator.synthesis(ws), golden["image_const"]) <= BAR
    assert difference(generator.synthesis(generator.truncate(ws, 0.7), noise="none"), golden["image_none_psi07"]) <= BAR


def test_a_round_trip_through_every_layout_keeps_every_bit(tmp_path: Path) -> None:
    source = written(tmp_path, LAYOUTS["nvidia .pkl"][1](), "network.pkl")
    steps = [
        ("ours", "facelatent", "a.safetensors"),
        ("rosinality", "rosinality", "b.pt"),
        ("ours again", "facelatent", "c.safetensors"),
        ("rosinality as safetensors", "rosinality", "d.safetensors"),
        ("nvidia", "nvidia-state", "e.pt"),
        ("nvidia as safetensors", "nvidia-state", "f.safetensors"),
        ("ours at last", "facelatent", "g.safetensors"),
    ]
    for _, layout, name in steps:
        source = convert(source, tmp_path / name, to=layout)  # type: ignore[arg-type]
    assert_same_bits(torch.load(tmp_path / "b.pt", weights_only=True)["g_ema"], files.rosinality_state())
    assert torch.equal(torch.load(tmp_path / "b.pt", weights_only=True)["latent_avg"], files.average())
    assert_same_bits(torch.load(tmp_path / "e.pt", weights_only=True), files.nvidia_state())
    flat = load_file(tmp_path / "d.safetensors")
    assert torch.equal(flat.pop("latent_avg"), files.average())
    assert_same_bits(flat, files.rosinality_state())
    last = {name: value for name, value in load_file(source).items() if not name.startswith("w_")}
    assert_same_bits(last, state_in_our_names())
    fingerprints = {inspect_checkpoint(path).fingerprint for path in tmp_path.glob("[a-g].*")}
    assert len(fingerprints) == 1


def test_a_saved_generator_loads_with_its_statistics_and_name(tmp_path: Path) -> None:
    path = written(tmp_path, LAYOUTS["nvidia .pkl"][1]())
    generator = load_generator(path, device="cpu")
    generator.name = "me"
    save_generator(generator, tmp_path / "me.safetensors")
    again = load_generator(tmp_path / "me.safetensors", device="cpu")
    assert isinstance(again, StyleGAN2)
    assert again.measured and again.name == "me"
    assert_same_bits(again.state_dict(), generator.state_dict())
    assert torch.allclose(picture(again), picture(generator), atol=1e-5)


def test_settings_come_from_the_pickled_objects(tmp_path: Path) -> None:
    content = files.nvidia_pickle(files.nvidia_state(), conv_clamp=256, num_fp16_res=4)
    checkpoint = read_checkpoint(written(tmp_path, content))
    assert checkpoint.config is not None and checkpoint.config.conv_clamp == 256
    assert checkpoint.settings["class_name"] == "Generator"
    converted = convert(tmp_path / "file.bin", tmp_path / "out.safetensors")
    generator = load_generator(converted, device="cpu")
    assert isinstance(generator, StyleGAN2) and generator.config.conv_clamp == 256


def test_options_of_an_encoder_bundle_are_kept_as_plain_values(tmp_path: Path) -> None:
    for namespace in (False, True):
        path = written(tmp_path, torch_bytes(files.encoder_bundle(namespace=namespace)))
        settings = read_checkpoint(path).settings
        assert settings["opts"]["encoder_type"] == "GradualStyleEncoder"
        assert settings["opts"]["exp_dir"] == "runs/1"
        assert settings["encoder_tensors"] == 1
        assert settings["latent_avg_shape"] == [8, 8]


def test_missing_noise_maps_are_named_and_drawn_the_same_each_time(tmp_path: Path) -> None:
    state = {name: value for name, value in files.rosinality_state().items() if not name.startswith("noises.")}
    path = written(tmp_path, torch_bytes({"g_ema": state, "latent_avg": files.average()}))
    assert read_checkpoint(path).missing == ("noise maps: drawn with a fixed seed",)
    assert load_generator(path, device="cpu").fingerprint == load_generator(path, device="cpu").fingerprint


def test_classes_survive_but_not_in_rosinalitys_layout(tmp_path: Path) -> None:
    config = StyleGAN2Config((4, 4), z_dim=6, w_dim=8, label_dim=3, mapping_layers=2)
    path = written(tmp_path, files.nvidia_pickle(files.nvidia_state(config)))
    assert read_checkpoint(path).config == config
    again = load_generator(convert(path, tmp_path / "out.safetensors"), device="cpu")
    assert again.label_dim == 3 and again.z_dim == 6
    with pytest.raises(UnsupportedCheckpoint, match="3 classes"):
        convert(path, tmp_path / "out.pt", to="rosinality")


@pytest.mark.parametrize("seed", range(12))
def test_any_shape_of_generator_is_read_off_its_tensors(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    channels = tuple(int(c) for c in random.integers(1, 7, random.integers(2, 6)))
    w_dim = int(random.integers(1, 9))
    config = StyleGAN2Config(channels, w_dim, w_dim, mapping_layers=int(random.integers(1, 10)))
    state = files.nvidia_state(config)
    assert read_checkpoint(written(tmp_path, files.nvidia_pickle(state))).config == config
    for layout in ("facelatent", "rosinality", "nvidia-state"):
        out = convert(tmp_path / "file.bin", tmp_path / f"{layout}.safetensors", to=layout)  # type: ignore[arg-type]
        assert read_checkpoint(out).config == config


def test_weights_saved_in_half_precision_are_read(tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        state = {name: value.to(dtype) for name, value in files.rosinality_state().items()}
        checkpoint = read_checkpoint(written(tmp_path, torch_bytes({"g_ema": state})))
        assert {value.dtype for value in checkpoint.state.values()} == {torch.float32}
        save_file(state, tmp_path / "half.safetensors")
        assert_same_bits(read_checkpoint(tmp_path / "half.safetensors").state, checkpoint.state)


def test_tensors_that_are_views_of_one_storage_are_read(tmp_path: Path) -> None:
    state = files.nvidia_state()
    for name, value in state.items():
        if value.ndim == 2 and "affine" in name:
            state[name] = torch.cat([torch.zeros_like(value), value.T.contiguous().T])[len(value) :]
    for old in (False, True):
        checkpoint = read_checkpoint(written(tmp_path, torch_bytes(state, old)))
        assert_same_bits(to_facelatent(checkpoint.state, files.TINY, "nvidia"), state_in_our_names())


def test_names_of_files_play_no_part(tmp_path: Path) -> None:
    path = written(tmp_path, LAYOUTS["nvidia .pkl"][1](), "model.safetensors")
    assert read_checkpoint(path).kind == "nvidia-pickle"
    save_file(files.nvidia_state(), tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").rename(tmp_path / "x.pkl")
    assert read_checkpoint(tmp_path / "x.pkl").kind == "nvidia-state"


def test_inspection_says_what_a_file_is(tmp_path: Path) -> None:
    seen = inspect_checkpoint(written(tmp_path, LAYOUTS["nvidia .pkl"][1]()))
    assert (seen.kind, seen.container, seen.layout) == ("nvidia-pickle", "pickle", "nvidia")
    assert (seen.resolution, seen.num_ws, seen.classes, seen.missing) == (32, 8, 0, ())
    assert seen.layers[0] == ("b4.conv1", 6) and seen.layers[-1] == ("b32.torgb", 3)
    generator = load_generator(tmp_path / "file.bin", device="cpu")
    assert seen.parameters == sum(p.numel() for p in generator.parameters())
    assert seen.fingerprint == generator.fingerprint
    assert same_w_space(seen.w_space, generator.w_space)


def test_an_imported_generator_is_found_by_its_name(tmp_path: Path) -> None:
    source = written(tmp_path, LAYOUTS["rosinality"][1](), "file.pt")
    kept = import_generator("my-face", source)
    assert imported_generators() == {"my-face": kept}
    generator = load_generator("my-face", device="cpu")
    assert generator.name == "my-face"
    assert generator.fingerprint == load_generator(source, device="cpu").fingerprint
    with pytest.raises(UnwritableOutput, match="imported already"):
        import_generator("my-face", source)
    assert import_generator("my-face", source, overwrite=True) == kept


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "mobile-ffhq-1024", "x" * 65, "a\nb"])
def test_names_that_are_not_names_are_refused(name: str, tmp_path: Path) -> None:
    source = written(tmp_path, LAYOUTS["rosinality"][1]())
    with pytest.raises(UnwritableOutput, match="cannot name a generator"):
        import_generator(name, source)


def test_an_unknown_generator_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    import_generator("mine", written(tmp_path, LAYOUTS["rosinality"][1]()))
    with pytest.raises(UnsupportedCheckpoint, match="known: mobile-ffhq-1024, mine"):
        load_generator("yours")


def test_converting_never_overwrites_unasked(tmp_path: Path) -> None:
    source = written(tmp_path, LAYOUTS["rosinality"][1](), "a.safetensors")
    before = source.read_bytes()
    with pytest.raises(UnwritableOutput, match="exists"):
        convert(source, source)
    assert source.read_bytes() == before
    convert(source, tmp_path / "b.safetensors")
    convert(source, tmp_path / "b.safetensors", overwrite=True)
    with pytest.raises(UnwritableOutput, match="must end with"):
        convert(source, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="unknown layout"):
        convert(source, tmp_path / "c.pt", to="tensorflow")  # type: ignore[arg-type]
