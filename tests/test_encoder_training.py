"""Training of compact encoders: regression, pairs, damage, looks, descent, and the whole on a tiny generator."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import make_tiny_generator
from torch import Tensor
from torch.nn import functional as F

from facelatent.cli import main
from facelatent.errors import FacelatentError, IncompatibleLatent, InvalidFile, UnsupportedCheckpoint
from facelatent.files import load_tensors, save_tensors
from facelatent.inversion import Recipe, load_encoder, lpips
from facelatent.inversion.encoders import CompactEncoder, Encoder, Home, describe
from facelatent.inversion.encoders.compact import DESCRIPTION
from facelatent.inversion.methods import default_encoder
from facelatent.inversion.training import LOG, EncoderTraining, train_encoder
from facelatent.inversion.training import pairs as pairs_module
from facelatent.inversion.training import validation as validation_module
from facelatent.inversion.training.augment import damage, scene
from facelatent.inversion.training.discriminator import LatentAdversary, LatentDiscriminator, delta_penalty
from facelatent.inversion.training.looks import learn_looks
from facelatent.inversion.training.pairs import Pairs, draw, training_ws
from facelatent.inversion.training.processes import Processes
from facelatent.inversion.training.refine import Refinement
from facelatent.inversion.training.regression import explained, fit, ticks
from facelatent.stylegan_ops import Generator, MobileStyleGAN, load_generator

SMALL = EncoderTraining(pairs=64, rank=8, components=16, looks=1, batch=2, save_every=2)


@pytest.fixture(autouse=True)
def weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little of everything: shards of 64, and two faces to validate on."""
    if request.node.get_closest_marker("assets"):
        for name in ("lpips-vgg", "lpips-alex", "face-landmarks-68", "face-identity"):
            request.getfixturevalue("asset")(name)
    monkeypatch.setattr(pairs_module, "SHARD", 64)
    monkeypatch.setattr("facelatent.inversion.training.train.SHARD", 64)
    monkeypatch.setattr(validation_module, "_FACES", 2)
    monkeypatch.setattr("facelatent.inversion.training.looks._TRIED", 8)


def an_encoder(generator: Generator, looks: int = 1, seed: int = 0) -> CompactEncoder:
    """An encoder of a generator with random weights."""
    basis = generator.w_components[:16] * generator.w_scales[:16, None]
    encoder = CompactEncoder("random", Home.of(generator), generator.w_avg.clone(), basis, 8, looks)
    torch.manual_seed(seed)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    encoder.lengths.fill_(0.5)
    return encoder.requires_grad_(False)


def related(count: int = 60, inputs: int = 200, outputs: int = 12) -> tuple[Tensor, Tensor]:
    """Inputs, and outputs that are a linear map of rank 3 of them, with a little noise."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(count, inputs, generator=random) * torch.linspace(0.5, 2, inputs) + 1
    rule = torch.randn(inputs, 3, generator=random) @ torch.randn(3, outputs, generator=random) / inputs**0.5
    return x.half(), x @ rule + 0.01 * torch.randn(count, outputs, generator=random) + 3


# The regression.


def test_left_out_is_what_fits_without_the_pair_say() -> None:
    x, y = related(24)
    weights = torch.ones(y.shape[1])
    everything = fit(x, y, weights, 0.5, y.shape[1], lambda: None)
    # The closed form holds for given means and scales: those of all pairs, as `fit` uses.
    from facelatent.inversion.training.regression import _standards

    mean, scale = _standards(x, torch.device("cpu"))
    z = (x.float() - mean) * scale
    kernel = z @ z.T
    for index in (0, 7, 23):
        rest = [row for row in range(24) if row != index]
        solved = torch.linalg.solve(kernel[rest][:, rest] + 0.5 * torch.eye(23), y[rest] - y.mean(0))
        expected = kernel[index, rest] @ solved + y.mean(0)
        torch.testing.assert_close(everything.left_out[index], expected, rtol=1e-3, atol=1e-3)


def test_map_is_the_ridge_solution() -> None:
    x, y = related()
    found = fit(x, y, torch.ones(y.shape[1]), 1e-3, y.shape[1], lambda: None).map
    predicted = x.float() @ found.down.T @ found.up.T + found.bias
    assert explained(y, predicted, torch.ones(y.shape[1])) > 0.999


def test_rank_keeps_what_varies_most() -> None:
    x, y = related()
    weights = torch.ones(y.shape[1])
    shares = []
    for rank in (1, 3, 12):
        found = fit(x, y, weights, 1e-2, rank, lambda: None).map
        assert found.down.shape == (rank, x.shape[1])
        shares.append(explained(y, x.float() @ found.down.T @ found.up.T + found.bias, weights))
    assert shares[0] < 0.9 < shares[1]
    assert shares[2] - shares[1] < 0.01


def test_weights_say_which_outputs_a_low_rank_serves() -> None:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(80, 40, generator=random)
    y = x[:, :2] * torch.tensor([1.0, 3.0])
    weights = torch.tensor([10.0, 1.0])
    found = fit(x.half(), y, weights, 1e-3, 1, lambda: None).map
    predicted = x @ found.down.T @ found.up.T + found.bias
    errors = (predicted - y).square().mean(0) / y.var(0)
    assert errors[0] < 0.1 < errors[1]


def test_fit_tells_of_its_progress() -> None:
    x, y = related()
    told: list[None] = []
    fit(x, y, torch.ones(y.shape[1]), 1.0, 2, lambda: told.append(None))
    assert len(told) == ticks(x.shape[1])


@pytest.mark.gpu
def test_gpu_fits_the_same_map() -> None:
    x, y = related()
    weights = torch.ones(y.shape[1])
    here, there = (fit(x, y.to(device), weights.to(device), 0.1, 3, lambda: None) for device in ("cpu", "cuda"))
    torch.testing.assert_close(there.left_out.cpu(), here.left_out, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.assets
def test_gpu_trains(tiny_generator_file: Path, tmp_path: Path) -> None:
    generator = load_generator(str(tiny_generator_file), "cuda")
    settings = replace(SMALL, steps=2, delta=1e-4, discriminator=0.1, scenes=1.0, damaged=1.0)
    train_encoder(generator, tmp_path / "encoder.safetensors", tmp_path / "work", settings)
    encoder = load_encoder(tmp_path / "encoder.safetensors", "cuda")
    assert encoder.encode_for(draw(generator, training_ws(generator, 2, 1)), generator).isfinite().all()


# Pairs.


def test_codes_are_those_of_their_seed(tiny_generator: MobileStyleGAN) -> None:
    codes = training_ws(tiny_generator, 64, 5)
    assert codes.shape == (64, tiny_generator.num_ws, 512)
    assert torch.equal(codes, training_ws(tiny_generator, 64, 5))
    assert not torch.equal(codes, training_ws(tiny_generator, 64, 6))
    # About half are mixed, of up to four parts, one after the other.
    changes = (codes[:, 1:] != codes[:, :-1]).any(2).sum(1)
    assert 16 < int((changes > 0).sum()) < 48
    assert int(changes.max()) <= 3


@pytest.mark.assets
def test_shards_are_kept_and_checked(tiny_generator: MobileStyleGAN, tmp_path: Path) -> None:
    pairs = Pairs(tiny_generator, tmp_path, 100, 0.5, 0)
    assert (pairs.shards, len(pairs)) == (2, 128)
    first = pairs.descriptions(0)
    assert first.shape == (64, DESCRIPTION)
    assert first.dtype == torch.half
    path = tmp_path / "pairs-00000.safetensors"
    written = path.stat().st_mtime_ns
    assert torch.equal(Pairs(tiny_generator, tmp_path, 64, 0.5, 0).descriptions(0), first)
    assert path.stat().st_mtime_ns == written
    with pytest.raises(InvalidFile, match="other settings"):
        Pairs(tiny_generator, tmp_path, 64, 0.2, 0).descriptions(0)
    with pytest.raises(InvalidFile, match="other settings"):
        Pairs(make_tiny_generator(1), tmp_path, 64, 0.5, 0).descriptions(0)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InvalidFile, match="delete it"):
        pairs.descriptions(0)


@pytest.mark.assets
def test_some_pictures_are_damaged(tiny_generator: MobileStyleGAN, tmp_path: Path) -> None:
    clean = Pairs(tiny_generator, tmp_path / "clean", 64, 0.0, 0).descriptions(0)
    some = Pairs(tiny_generator, tmp_path / "some", 64, 0.5, 0).descriptions(0)
    changed = int((clean != some).any(1).sum())
    assert 10 < changed < 54


@pytest.mark.assets
def test_descriptions_are_unit_features_on_a_grid() -> None:
    images = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    described = describe(images)
    assert described.shape == (2, DESCRIPTION)
    # Each place's features have length one, so that a cell's mean has at most that.
    cells = described[:, : 128 * 64].view(2, 128, 64)
    assert float(cells.norm(dim=1).max()) <= 1 + 1e-5
    # Averaging is what happens to larger pictures.
    assert float((described - describe(F.interpolate(images, (512, 512)))).norm()) < 1e-2 * float(described.norm())


# Damage.


@pytest.mark.parametrize("change", [scene, damage])
def test_damage_is_of_its_seed_and_in_range(change: object, tiny_generator: MobileStyleGAN) -> None:
    images = draw(tiny_generator, training_ws(tiny_generator, 24, 1))
    before = images.clone()
    results = [change(images, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]  # type: ignore[operator]
    assert torch.equal(images, before)
    assert results[0].shape == images.shape
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert float(results[0].abs().max()) <= 1 + 1e-5
    changed = (results[0] - images).abs().amax((1, 2, 3)) > 1e-3
    assert 6 <= int(changed.sum()) < 24  # some are left alone


def test_jitter_keeps_the_middle(tiny_generator: MobileStyleGAN) -> None:
    from facelatent.inversion.training import augment

    images = torch.zeros(40, 3, 65, 65)
    images[:, :, 32, 32] = 1
    moved = augment._cropped(images, torch.Generator().manual_seed(0))
    places = moved.sum(1).flatten(1).argmax(1)
    rows, columns = places // 65, places % 65
    limit = math.ceil(65 * 0.02) + 1
    assert int((rows - 32).abs().max()) <= limit
    assert int((columns - 32).abs().max()) <= limit
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) > 3


# The encoder.


@pytest.mark.assets
def test_encoder_survives_its_file(tiny_generator: MobileStyleGAN, tmp_path: Path) -> None:
    encoder = an_encoder(tiny_generator)
    assert isinstance(encoder, Encoder)
    images = draw(tiny_generator, training_ws(tiny_generator, 2, 1))
    encoder.save(tmp_path / "a.safetensors", {"pairs": 3})
    encoder.save(tmp_path / "b.safetensors", {"pairs": 3})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = load_encoder(tmp_path / "a.safetensors", "cpu")
    assert isinstance(loaded, CompactEncoder)
    assert (loaded.name, loaded.num_ws, loaded.home) == ("random", 8, Home.of(tiny_generator))
    torch.testing.assert_close(loaded.encode(images), encoder.encode(images), rtol=1e-2, atol=1e-3)
    assert load_tensors(tmp_path / "a.safetensors")[1]["recipe"] == {"pairs": 3}


@pytest.mark.assets
def test_encoder_looks_at_what_it_found(tiny_generator: MobileStyleGAN) -> None:
    encoder = an_encoder(tiny_generator, looks=3)
    images = draw(tiny_generator, training_ws(tiny_generator, 2, 1))
    layers = list(range(8))
    with torch.no_grad():
        found = list(encoder.each_look(images, tiny_generator, layers))
        assert len(found) == 4
        # Each look moves by its length, and keeps 0.7 of the movement before.
        first, second = found[1] - found[0], found[2] - found[1]
        torch.testing.assert_close(first.norm(dim=1), torch.full((2,), 0.5))
        torch.testing.assert_close((second - 0.7 * first).norm(dim=1), torch.full((2,), 0.5))
        plain, looked = encoder.encode(images), encoder.encode_for(images, tiny_generator)
        torch.testing.assert_close(plain, encoder.codes(found[0]))
        torch.testing.assert_close(looked, encoder.codes(found[3]))
    assert not looked.requires_grad
    with pytest.raises(IncompatibleLatent, match="another"):
        encoder.encode_for(images, make_tiny_generator(1))
    with pytest.raises(ValueError, match=r"\[n, 3, H, W\]"):
        encoder.encode_for(images[0], tiny_generator)


def test_coordinates_are_the_inverse_of_codes(tiny_generator: MobileStyleGAN) -> None:
    encoder = an_encoder(tiny_generator)
    coordinates = torch.randn(3, 8 * 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encoder.coordinates(encoder.codes(coordinates)), coordinates, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("missing", ["basis", "map.0.weight", "lengths", "map.1.bias"])
def test_incomplete_files_are_refused(tiny_generator: MobileStyleGAN, tmp_path: Path, missing: str) -> None:
    path = tmp_path / "encoder.safetensors"
    an_encoder(tiny_generator).save(path)
    tensors, metadata = load_tensors(path)
    save_tensors(path, {key: value for key, value in tensors.items() if key != missing}, metadata)
    with pytest.raises(UnsupportedCheckpoint):
        load_encoder(path, "cpu")


@pytest.mark.parametrize("key", ["basis", "map.0.weight", "lengths", "map.1.bias", "sensitivity"])
def test_wrong_shapes_are_refused(tiny_generator: MobileStyleGAN, tmp_path: Path, key: str) -> None:
    path = tmp_path / "encoder.safetensors"
    an_encoder(tiny_generator).save(path)
    tensors, metadata = load_tensors(path)
    for shape in ((), (1, 1), (2, 3, 4), (200,)):
        save_tensors(path, {**tensors, key: torch.zeros(shape)}, metadata)
        with pytest.raises(UnsupportedCheckpoint):
            load_encoder(path, "cpu")


def test_no_encoder_comes_with_an_unknown_generator(tiny_generator: MobileStyleGAN) -> None:
    assert default_encoder(tiny_generator) is None
    assert Recipe().method_for(tiny_generator) == "optimize+tune"


# Looks.


@pytest.mark.assets
def test_looks_are_learned(tiny_generator: MobileStyleGAN) -> None:
    encoder = an_encoder(tiny_generator, looks=2)
    images = draw(tiny_generator, training_ws(tiny_generator, 16, 1))
    true = encoder.coordinates(training_ws(tiny_generator, 16, 1))
    start = true + 0.3 * torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
    learn_looks(encoder, tiny_generator, images, start, lambda: None)
    # The coarse layers of a generator change more of a picture than the fine ones, first components more than last.
    assert float(encoder.sensitivity.min()) > 0
    assert float(encoder.sensitivity.std()) > 0
    assert all(0.3 < float(length) < 3 for length in encoder.lengths)


# Descent.


@pytest.mark.assets
def test_descent_lowers_the_loss(tiny_generator: MobileStyleGAN) -> None:
    settings = replace(SMALL, learning_rate=1e-3, scenes=0.0, damaged=0.0, identity=0.0)
    refinement = Refinement(an_encoder(tiny_generator), tiny_generator, settings, Processes())
    examples = refinement._examples()
    refinement._examples = lambda: examples  # type: ignore[method-assign]
    losses: list[float] = []
    refinement.run(30, losses.append)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.assets
def test_a_resumed_descent_is_an_unbroken_one(tiny_generator: MobileStyleGAN, tmp_path: Path) -> None:
    settings = replace(SMALL, learning_rate=1e-3, discriminator=0.1, delta=2e-4)
    whole, broken, resumed = (
        Refinement(an_encoder(tiny_generator), tiny_generator, settings, Processes()) for _ in range(3)
    )
    told: list[float] = []
    whole.run(4, told.append)
    broken.run(2, lambda loss: None)
    broken.save(tmp_path / "descent.pt")
    resumed.load(tmp_path / "descent.pt")
    again: list[float] = []
    resumed.run(4, again.append)
    assert again == told[2:]
    for a, b in zip(whole.encoder.parameters(), resumed.encoder.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.assets
def test_a_descent_that_diverges_says_so(tiny_generator: MobileStyleGAN) -> None:
    encoder = an_encoder(tiny_generator)
    encoder.map[1].bias.fill_(float("nan"))
    with pytest.raises(FacelatentError, match="step 0; use a lower --learning-rate"):
        Refinement(encoder, tiny_generator, SMALL, Processes()).run(1, lambda loss: None)


@pytest.mark.assets
def test_damaged_checkpoints_of_a_descent_are_named(tiny_generator: MobileStyleGAN, tmp_path: Path) -> None:
    refinement = Refinement(an_encoder(tiny_generator), tiny_generator, SMALL, Processes())
    path = tmp_path / "descent.pt"
    path.write_bytes(b"PK nothing")
    with pytest.raises(InvalidFile, match=r"descent\.pt"):
        refinement.load(path)


def test_delta_penalty_is_that_of_e4e() -> None:
    ws = torch.zeros(2, 4, 8)
    assert float(delta_penalty(ws)) == 0
    ws[0, 1, 0], ws[0, 3, 1], ws[1, 2, 2] = 3, -4, 5
    assert float(delta_penalty(ws)) == pytest.approx((3 + 4 + 5) / 2)


def test_latent_discriminator_learns_to_tell() -> None:
    torch.manual_seed(0)
    adversary = LatentAdversary(LatentDiscriminator(16))
    for group in adversary.optimizer.param_groups:
        group["lr"] = 2e-3
    real, found = torch.randn(64, 16) + 1, torch.randn(16, 4, 16) - 1
    before = float(adversary.loss(found).detach())
    for step in range(60):
        adversary.step(real, found, step)
    ws = found.clone().requires_grad_(True)
    loss = adversary.loss(ws)
    assert float(loss.detach()) > before + 0.5
    loss.backward()
    # The encoder is told where real codes lie.
    assert float((-ws.grad).mean()) > 0


# The whole.


@pytest.mark.assets
def test_training_goes_on_where_it_was_stopped(
    tiny_generator: MobileStyleGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SMALL, steps=4)
    train_encoder(tiny_generator, tmp_path / "whole.safetensors", tmp_path / "whole", settings)

    steps = 0

    def stop(*arguments: object) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return delta_penalty(*arguments)  # type: ignore[arg-type]

    broken = replace(settings, delta=1e-9)
    with monkeypatch.context() as patch:
        patch.setattr("facelatent.inversion.training.refine.delta_penalty", stop)
        with pytest.raises(KeyboardInterrupt):
            train_encoder(tiny_generator, tmp_path / "b.safetensors", tmp_path / "broken", broken)
    assert not (tmp_path / "b.safetensors").exists()
    fitted = (tmp_path / "broken" / "fit.safetensors").stat().st_mtime_ns
    train_encoder(tiny_generator, tmp_path / "b.safetensors", tmp_path / "broken", broken)
    assert (tmp_path / "broken" / "fit.safetensors").stat().st_mtime_ns == fitted
    whole, resumed = (load_tensors(tmp_path / f"{name}.safetensors") for name in ("whole", "b"))
    for key, value in whole[0].items():
        torch.testing.assert_close(resumed[0][key], value, rtol=1e-3, atol=1e-5)
    assert whole[1]["recipe"]["settings"]["pairs"] == 64
    log = [json.loads(line) for line in (tmp_path / "whole" / LOG).read_text().splitlines()]
    assert [record["stage"] for record in log] == ["regression", "looks", "fit", "descent", "descent"]
    assert len(log[2]["measured"]) == 2
    assert {path.name for path in (tmp_path / "whole").glob("*.jpg")} == {
        "fit.jpg",
        "step-000002.jpg",
        "step-000004.jpg",
    }
    with pytest.raises(InvalidFile, match="other settings"):
        other = replace(settings, ridge=0.5)
        train_encoder(tiny_generator, tmp_path / "c.safetensors", tmp_path / "whole", other)


@pytest.mark.assets
def test_training_finds_codes(tiny_generator: MobileStyleGAN, tmp_path: Path) -> None:
    # More rank than there are outputs is as many as there are.
    settings = EncoderTraining(pairs=256, rank=1000, components=64, looks=1, damaged=0.0)
    train_encoder(tiny_generator, tmp_path / "encoder.safetensors", tmp_path / "work", settings)
    encoder = load_encoder(tmp_path / "encoder.safetensors", "cpu")
    true = training_ws(tiny_generator, 8, 999)
    images = draw(tiny_generator, true)
    found = draw(tiny_generator, encoder.encode_for(images, tiny_generator))
    mean = draw(tiny_generator, tiny_generator.broadcast(tiny_generator.w_avg[None]))
    far = float(lpips(images, mean.expand_as(images)).mean())
    assert float(lpips(images, found).mean()) < 0.8 * far


@pytest.mark.assets
@pytest.mark.slow
def test_two_processes_train_one_encoder(tiny_generator_file: Path, tmp_path: Path) -> None:
    code = (
        "import facelatent.inversion.training.pairs as pairs, facelatent.inversion.training.train as train\n"
        "import facelatent.inversion.training.validation as validation\n"
        "pairs.SHARD = train.SHARD = 64\n"
        "validation._FACES = 2\n"
        "from facelatent.cli import main\n"
        "main(prog_name='facelatent')\n"
    )
    (tmp_path / "run.py").write_text(code)
    arguments = [
        "train-encoder",
        "-o",
        tmp_path / "e.safetensors",
        "--generator",
        tiny_generator_file,
        "--device",
        "cpu",
    ]
    arguments += ["--pairs", "128", "--rank", "8", "--components", "16", "--looks", "0", "--steps", "2", "--batch", "1"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, tmp_path / "run.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("wrote") == 1  # one process talks
    encoder = load_encoder(tmp_path / "e.safetensors", "cpu")
    assert encoder.num_ws == 8
    work = tmp_path / "e.safetensors.work"
    assert {path.name for path in work.glob("pairs-*")} == {"pairs-00000.safetensors", "pairs-00001.safetensors"}


def test_defaults_of_the_command_are_those_of_the_library() -> None:
    offered = {option.name: option.default for option in main.commands["train-encoder"].params}
    defaults = asdict(EncoderTraining())
    assert {name: offered[name] for name in defaults} == defaults


def test_bad_options_are_refused(tmp_path: Path, tiny: tuple[str, ...]) -> None:
    runner = CliRunner()
    for wrong in (["--pairs", "0"], ["--ridge", "0"], ["--damaged", "2"], ["--rank", "0"], ["--seed", "-1"]):
        result = runner.invoke(main, ["train-encoder", "-o", str(tmp_path / "e.safetensors"), *tiny, *wrong])
        assert result.exit_code == 2, wrong
    (tmp_path / "file").touch()
    result = runner.invoke(main, ["train-encoder", "-o", str(tmp_path / "file" / "e.safetensors"), *tiny])
    assert result.exit_code == 1
    assert "cannot write" in result.output
    for wrong_settings in ({"pairs": 0}, {"ridge": 0.0}, {"damaged": 1.5}, {"batch": 0}):
        with pytest.raises(ValueError, match=r"at least|between"):
            EncoderTraining(**wrong_settings)  # type: ignore[arg-type]
