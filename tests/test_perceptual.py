"""LPIPS with its published weights, and the reader of the pickles that they come in."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.assets import load_numpy_pickle
from facelatent.errors import UnsafeCheckpoint, UnsupportedCheckpoint
from facelatent.inversion import LPIPS, lpips
from facelatent.inversion.perceptual import load_lpips

NETS = ("alex", "vgg")
both = pytest.mark.parametrize("net", NETS)


@pytest.fixture(scope="module")
def picture(astronaut: Tensor) -> Tensor:
    return F.interpolate(astronaut[..., :256, 96:352], size=64, mode="area")


@pytest.fixture(autouse=True)
def weights(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("assets"):
        for net in NETS:
            request.getfixturevalue("asset")(f"lpips-{net}")


def blurred(images: Tensor, sigma: float) -> Tensor:
    reach = math.ceil(3 * sigma)
    taps = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = torch.outer(taps, taps)[None, None].expand(3, 1, -1, -1) / taps.sum() ** 2
    return F.conv2d(F.pad(images, [reach] * 4, mode="replicate"), kernel, groups=3)


@pytest.mark.assets
@both
def test_equal_pictures_have_no_distance(net: str, picture: Tensor) -> None:
    assert float(lpips(picture, picture, net)) == 0
    assert float(lpips(picture, picture + 1e-3, net)) < 1e-3


@pytest.mark.assets
@both
def test_blur_is_seen(net: str, picture: Tensor) -> None:
    values = [float(lpips(picture, blurred(picture, sigma), net)) for sigma in (0.4, 0.8, 1.6, 3.2)]
    assert values == sorted(values)
    assert 0 < values[0] < 0.2
    assert 0.3 < values[-1] < 1.2


@pytest.mark.assets
@both
def test_people_mind_noise_more_than_brightness(net: str, picture: Tensor) -> None:
    noise = 0.2 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    brighter = picture + 0.2
    assert float(lpips(picture, picture + noise, net)) > 3 * float(lpips(picture, brighter, net))


@pytest.mark.assets
@both
def test_symmetric_and_one_value_a_picture(net: str, picture: Tensor) -> None:
    batch = torch.cat([picture, picture.flip(3), blurred(picture, 1)])
    other = torch.cat([blurred(picture, 2), picture, picture])
    forwards, backwards = lpips(batch, other, net), lpips(other, batch, net)
    assert forwards.shape == (3,)
    assert torch.allclose(forwards, backwards, atol=1e-6)
    alone = torch.stack([lpips(batch[i : i + 1], other[i : i + 1], net)[0] for i in range(3)])
    assert torch.allclose(forwards, alone, atol=1e-5)


@pytest.mark.assets
def test_networks_differ(picture: Tensor) -> None:
    soft = blurred(picture, 1.5)
    alex, vgg = float(lpips(picture, soft, "alex")), float(lpips(picture, soft, "vgg"))
    assert abs(alex - vgg) > 0.02
    assert float(lpips(picture, soft)) == alex  # what papers report is the default


@pytest.mark.assets
@both
def test_features_computed_once_give_the_same(net: str, picture: Tensor) -> None:
    network = load_lpips(net)
    soft = blurred(picture, 1)
    kept = network.normalised(picture)
    assert len(kept) == 5
    for part in kept:
        lengths = part.square().sum(1).sqrt()
        # Where nothing at all fires, the length is 0.
        assert bool(((lengths - 1).abs() < 1e-4).logical_or(lengths == 0).all())
    assert torch.equal(network.distance(network.normalised(soft), kept), network(soft, picture))


@pytest.mark.assets
@both
def test_gradient_leads_to_the_target(net: str, picture: Tensor) -> None:
    moved = blurred(picture, 1.5).requires_grad_(True)
    distance = lpips(moved, picture, net)
    distance.sum().backward()
    assert bool(moved.grad.isfinite().all())
    step = moved.detach() - 0.05 * moved.grad / moved.grad.abs().max()
    assert float(lpips(step, picture, net)) < float(distance.detach())


@pytest.mark.assets
@both
@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_gradient_of_a_plain_picture_is_finite(net: str, level: float, picture: Tensor) -> None:
    plain = torch.full_like(picture, level).requires_grad_(True)
    lpips(plain, picture, net).sum().backward()
    assert bool(plain.grad.isfinite().all())


@pytest.mark.assets
@both
def test_gradient_of_equal_pictures_is_finite(net: str, picture: Tensor) -> None:
    same = picture.clone().requires_grad_(True)
    lpips(same, picture, net).sum().backward()
    assert bool(same.grad.isfinite().all())


@pytest.mark.assets
@both
def test_weights_are_frozen_published_ones(net: str) -> None:
    network = load_lpips(net)
    assert load_lpips(net) is network
    assert not any(parameter.requires_grad for parameter in network.parameters())
    # The heads were trained with weights that are not negative: a distance never is either.
    assert all(float(head.min()) >= 0 for head in network.heads)
    assert all(float(head.max()) > 0 for head in network.heads)


@pytest.mark.assets
def test_second_load_needs_only_the_conversion(monkeypatch: pytest.MonkeyPatch, picture: Tensor) -> None:
    expected = load_lpips("alex")(picture, picture.flip(3))

    def refuse(name: str) -> Path:
        raise AssertionError(f"{name} was looked for")

    monkeypatch.setattr("facelatent.inversion.perceptual.asset_path", refuse)
    assert torch.equal(LPIPS("alex")(picture, picture.flip(3)), expected)


# Pickles of arrays


def written(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_come_back(tmp_path: Path, protocol: int) -> None:
    tree = {
        "Conv_0": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.zeros(4)},
        "n": np.int16([3]),
    }
    read = load_numpy_pickle(written(tmp_path / "a", tree, protocol))
    assert np.array_equal(read["Conv_0"]["kernel"], tree["Conv_0"]["kernel"])
    assert read["Conv_0"]["kernel"].dtype == np.float32
    assert read["n"].dtype == np.int16


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_runs(tmp_path: Path, protocol: int) -> None:
    traces = [tmp_path / name for name in ("system", "deep", "exec", "open")]
    bombs = [
        {"w": Calls(os.system, f"touch {traces[0]}")},
        {"a": {"b": [1, Calls(os.system, f"touch {traces[1]}")]}},
        Calls(exec, f"open({str(traces[2])!r}, 'w')"),
        {"w": Calls(open, str(traces[3]), "w")},
    ]
    for bomb in bombs:
        with pytest.raises(UnsafeCheckpoint, match=r"must not refer to (posix|nt|builtins|__builtin__|io|_io)\.\w+"):
            load_numpy_pickle(written(tmp_path / "a", bomb, protocol))
    assert not any(trace.exists() for trace in traces)
    # And the bombs are live: a common unpickler sets them off.
    pickle.loads(written(tmp_path / "b", bombs[0], protocol).read_bytes())  # noqa: S301
    assert traces[0].exists()


@pytest.mark.parametrize(
    "function", [np.load, np.fromfile, np.memmap, eval, getattr, __import__], ids=lambda function: function.__name__
)
def test_other_functions_are_refused_too(tmp_path: Path, function: Callable[..., object]) -> None:
    with pytest.raises(UnsafeCheckpoint):
        load_numpy_pickle(written(tmp_path / "a", {"w": Calls(function, "x")}))


@pytest.mark.parametrize("name", ["ndarray.tofile", "dtype.__class__", "ndarray.__class__.__base__"])
def test_attributes_of_allowed_names_are_refused(tmp_path: Path, name: str) -> None:
    # Protocol 4 lets a name have dots.
    encoded = b"\x80\x04" + b"\x8c\x05numpy" + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
    (tmp_path / "a").write_bytes(encoded)
    with pytest.raises(UnsafeCheckpoint, match="refused"):
        load_numpy_pickle(tmp_path / "a")


@pytest.mark.parametrize("value", [[1, 2], np.zeros(3), None, "text", 3.0], ids=lambda value: type(value).__name__)
def test_not_a_dict(tmp_path: Path, value: object) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=f"holds a {type(value).__name__}, not a dict"):
        load_numpy_pickle(written(tmp_path / "a", value))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"garbage",
        b"<html>Sign in</html>",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x80\x04",
        b"\x80\xff.",
    ],
    ids=["empty", "stop", "text", "html", "lfs", "cut", "protocol"],
)
def test_garbage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UnsupportedCheckpoint, match="is not a pickle of arrays"):
        load_numpy_pickle(tmp_path / "a")


def test_cut_off(tmp_path: Path) -> None:
    # Not changed bytes: Python's own unpickler can crash on those, hence the checksums of assets.
    whole = pickle.dumps({"w": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.zeros(2)}}, 4)
    for length in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:length])
        with pytest.raises(UnsupportedCheckpoint):
            load_numpy_pickle(tmp_path / "a")


def test_message_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"Pid\n.")
    with pytest.raises(UnsupportedCheckpoint) as caught:
        load_numpy_pickle(tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "length",
    [
        1 << 50,
        1 << 70,
    ],
)
def test_array_too_large_for_any_machine(tmp_path: Path, length: int) -> None:
    written(tmp_path / "a", {"w": Calls(np.ndarray, (length,))})
    with pytest.raises(UnsupportedCheckpoint):
        load_numpy_pickle(tmp_path / "a")
