"""Identity losses: dlib's network in PyTorch against dlib, the reader of its file, and ArcFace's loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dlib
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.assets.dlib_file import DlibLayer, read_dlib_layers
from facelatent.errors import UnsupportedCheckpoint
from facelatent.faces import face_chip, find_faces, identity
from facelatent.images import to_arrays
from facelatent.inversion import ArcFaceIdentity, DlibIdentity
from facelatent.inversion.dlib_face import DlibFace, load_dlib_face, state_from
from facelatent.inversion.encoders import ArcFace, irse
from facelatent.inversion.identity import AVERAGE_FRAME, chip_frame, cut_chips, frames_in
from facelatent.stylegan_ops import Generator


@pytest.fixture(autouse=True)
def weights(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("assets"):
        for name in ("face-identity", "face-landmarks-68"):
            request.getfixturevalue("asset")(name)


@pytest.fixture(scope="module")
def faces(mobile: Generator) -> Tensor:
    """Four generated faces [4, 3, 256, 256] in 8-bit steps, which is all that dlib can see."""
    with torch.no_grad():
        codes = torch.cat([mobile.sample_w(seed, 0.8) for seed in range(4)])
        drawn = [mobile.synthesis(mobile.broadcast(w), resolution=256) for w in torch.split(codes, 1)]
    return as_dlib_sees(torch.cat(drawn))


def as_dlib_sees(images: Tensor) -> Tensor:
    return torch.from_numpy(to_arrays(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.assets
def test_embeddings_equal_dlibs(asset: Callable[[str], Path], astronaut: Tensor, faces: Tensor) -> None:
    recogniser = dlib.face_recognition_model_v1(str(asset("face-identity")))
    pictures = [to_arrays(astronaut)[0], *to_arrays(faces)]
    chips = [face_chip(pixels, find_faces(pixels)[0], 150, 0.25) for pixels in pictures]
    chips += [np.zeros_like(chips[0]), np.random.default_rng(0).integers(0, 256, chips[0].shape, np.uint8)]
    wanted = np.array([recogniser.compute_face_descriptor(np.ascontiguousarray(chip)) for chip in chips])
    images = torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float() / 127.5 - 1
    found = load_dlib_face()(images).numpy()
    assert found.shape == (7, 128)
    assert np.abs(found - wanted).max() < 1e-5  # embeddings are about 1.4 long


@pytest.mark.assets
def test_chips_are_dlibs(astronaut: Tensor, faces: Tensor) -> None:
    for image in (astronaut, faces[:1], faces[1:2]):
        pixels = to_arrays(image)[0]
        face = find_faces(pixels)[0]
        chips = cut_chips(image, chip_frame(face, pixels.shape[1], pixels.shape[0])[None])
        wanted = face_chip(pixels, face, 150, 0.25)
        # dlib cuts decimals off.
        found = (chips[0].permute(1, 2, 0) + 1) * 127.5 - 0.5
        assert np.abs(found.numpy() - wanted).max() < 0.6


def test_large_pictures_are_averaged() -> None:
    noise = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    # 4.7 pixels of noise fall into one of the chip: a quarter of their spread is left, or two thirds without a blur.
    assert float(cut_chips(noise, AVERAGE_FRAME[None]).std()) < 0.25


@pytest.mark.assets
def test_a_picture_outside_its_frame_is_black(faces: Tensor) -> None:
    aside = torch.tensor([[[0.7, 0.0, 2.0], [0.0, 0.7, 0.0]]])
    assert bool((cut_chips(faces[:1], aside) == -1).all(1)[:, :, 75:].all())


@pytest.mark.assets
def test_pictures_are_judged_as_dlib_judges_them(faces: Tensor) -> None:
    judge = DlibIdentity()
    found = judge.embed(faces, frames_in(faces))
    for pixels, embedding in zip(to_arrays(faces), found, strict=True):
        wanted = torch.from_numpy(identity(pixels, find_faces(pixels)[0])).float()
        assert float((embedding - wanted).norm()) < 0.02
    # One frame for all aligned crops costs a little.
    rough = judge.embed(faces)
    assert float((rough - found).norm(dim=1).max()) < 0.3


@pytest.mark.assets
def test_size_hardly_matters(mobile: Generator, faces: Tensor) -> None:
    with torch.no_grad():
        large = mobile.synthesis(mobile.broadcast(mobile.sample_w(0, 0.8)))
    judge, frames = DlibIdentity(), frames_in(faces[:1])
    assert float((judge.embed(large, frames) - judge.embed(faces[:1], frames)).norm()) < 0.05


@pytest.mark.assets
def test_a_loss_that_knows_people(faces: Tensor) -> None:
    judge = DlibIdentity()
    assert torch.equal(judge(faces, faces), torch.zeros(4))
    dimmer = judge(faces * 0.8, faces)
    others = judge(faces, faces.roll(1, 0))
    assert float(dimmer.max()) < 0.1 < 0.36 < float(others.min())


@pytest.mark.assets
def test_gradients_lead_to_the_other_person(faces: Tensor) -> None:
    judge = DlibIdentity()
    image = faces[:1].clone().requires_grad_(True)
    target = faces[1:2].clone().requires_grad_(True)
    loss = judge(image, target).sum()
    loss.backward()
    assert target.grad is None and image.grad is not None
    step = image.grad / image.grad.norm()
    slope = float(judge((image + 0.05 * step).detach(), target) - judge((image - 0.05 * step).detach(), target)) / 0.1
    assert slope == pytest.approx(float(image.grad.norm()), rel=0.05)


@pytest.mark.assets
def test_frames_of_faces_and_of_none(faces: Tensor) -> None:
    frames = frames_in(torch.cat([faces, torch.zeros_like(faces[:1])]))
    assert torch.equal(frames[4], AVERAGE_FRAME)
    assert float((frames[:4] - AVERAGE_FRAME).abs().max()) < 0.1
    larger = frames_in(F.interpolate(faces[:1], scale_factor=2, mode="bilinear"))
    assert torch.allclose(larger[0], frames[0], atol=0.03)


def number(value: int) -> bytes:
    size = max((value.bit_length() + 7) // 8, 1)
    return bytes([size]) + value.to_bytes(size, "little")


def tensor(values: np.ndarray, version: int = 2) -> bytes:
    return b"".join(map(number, (version, values.size, 1, 1, 1))) + values.astype("<f4").tobytes()


def layer(name: str, values: np.ndarray, settings: tuple[int, ...] = (), version: int = 2) -> bytes:
    sizes = (4, 3) if name == "fc_2" else ()
    head = number(len(name)) + name.encode() + b"".join(map(number, sizes))
    return head + tensor(values, version) + b"".join(map(number, settings)) + b"\x01\x00110"


CON = layer("con_4", np.arange(300.0), (32, 7, 7, 2, 2, 0, 0))
AFFINE = layer("affine_", np.array([1.5, -2.0]))
FC = layer("fc_2", np.arange(12.0))


def test_layers_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "net.dat"
    path.write_bytes(b"\x01\x01\x01\x0dloss_metric_2" + CON + AFFINE + FC)
    layers = read_dlib_layers(path)
    assert [(one.name, one.settings) for one in layers] == [
        ("con_4", (32, 7, 7, 2, 2, 0, 0)),
        ("affine_", ()),
        ("fc_2", ()),
    ]
    for one, count in zip(layers, (300, None, 12), strict=True):
        assert one.values.tolist() == ([1.5, -2.0] if count is None else list(range(count)))


@pytest.mark.parametrize(
    "data",
    [
        CON[:200],
        CON[:12],
        layer("affine_", np.zeros(2), version=1),
        number(7) + b"affine_\x02\xff\xff",
        number(7) + b"affine_\x01\x02\x81\x02\x01\x01\x01\x01\x01\x01",  # -2 numbers
        CON + FC[:-20],
    ],
)
def test_damaged_files_are_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "net.dat"
    path.write_bytes(data)
    with pytest.raises(UnsupportedCheckpoint, match=r"net\.dat is damaged at byte"):
        read_dlib_layers(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.dat"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UnsupportedCheckpoint, match="no layer with weights"):
        read_dlib_layers(path)


def dlib_layers() -> list[DlibLayer]:
    """Layers of a network of the right shape, with random weights."""
    random = np.random.default_rng(0)
    layers = []
    for _, module in DlibFace().convolutions():
        settings = (module.out_channels, *module.kernel_size, *module.stride, *module.padding)
        values = random.normal(size=module.weight.numel() + module.out_channels) / np.sqrt(module.weight[0].numel())
        layers += [
            DlibLayer("con_4", values.astype(np.float32), settings),
            DlibLayer("affine_", random.normal(size=2 * module.out_channels).astype(np.float32)),
        ]
    return [*layers, DlibLayer("fc_2", random.normal(size=256 * 128).astype(np.float32))]


def test_affine_layers_are_folded() -> None:
    layers = dlib_layers()
    network = DlibFace()
    network.load_state_dict(state_from(layers))
    x = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    weight, bias = (torch.from_numpy(part) for part in np.split(layers[0].values, [32 * 3 * 49]))
    scale, offset = torch.from_numpy(layers[1].values).reshape(2, 1, 32, 1, 1)
    wanted = F.conv2d(x, weight.reshape(32, 3, 7, 7), bias, 2) * scale + offset
    assert torch.allclose(network.stem(x), wanted, atol=1e-4)
    assert network(torch.zeros(2, 3, 150, 150)).shape == (2, 128)


def _without_last(layers: list[DlibLayer]) -> list[DlibLayer]:
    return layers[:-1]


def _other_stride(layers: list[DlibLayer]) -> list[DlibLayer]:
    return [DlibLayer("con_4", layers[0].values, (32, 7, 7, 1, 1, 0, 0)), *layers[1:]]


def _short(layers: list[DlibLayer]) -> list[DlibLayer]:
    return [*layers[:-1], DlibLayer("fc_2", layers[-1].values[:-1])]


@pytest.mark.parametrize(
    ("harm", "message"),
    [(_without_last, "58 layers"), (_other_stride, "another kind"), (_short, "32767 numbers")],
)
def test_other_networks_are_refused(harm: Callable[[list[DlibLayer]], list[DlibLayer]], message: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=message):
        state_from(harm(dlib_layers()))


@pytest.fixture
def arcface_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A narrow ArcFace with random weights."""
    monkeypatch.setattr(irse, "_STAGES", ((3, 16), (4, 32), (14, 48), (3, 64)))
    torch.manual_seed(0)
    path = tmp_path / "model_ir_se50.pth"
    torch.save(ArcFace().state_dict(), path)
    return path


def test_arcface_sees_the_crop(arcface_file: Path) -> None:
    network = ArcFace()
    network.load_state_dict(torch.load(arcface_file, weights_only=True))
    network.eval()
    random = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 256, 256, generator=random) * 2 - 1 for _ in range(2))
    first, second = (network(nn.AdaptiveAvgPool2d(112)(x[:, :, 35:223, 32:220])) for x in (a, b))
    loss = ArcFaceIdentity(arcface_file)
    assert torch.allclose(loss(a, b), 1 - (first * second).sum(1), atol=1e-6)
    assert torch.allclose(loss(a, a), torch.zeros(2), atol=1e-6)
    changed = a.clone()
    changed[:, :, :35] = 0
    changed[:, :, :, 220:] = 0
    assert torch.equal(loss.embed(changed), loss.embed(a))
    doubled = F.interpolate(a, scale_factor=2, mode="nearest")
    assert torch.allclose(loss.embed(doubled), loss.embed(a), atol=1e-5)


def test_arcface_gives_gradients_to_the_first_only(arcface_file: Path) -> None:
    loss = ArcFaceIdentity(arcface_file)
    a, b = (torch.rand(1, 3, 256, 256).requires_grad_(True) for _ in range(2))
    loss(a, b).sum().backward()
    assert b.grad is None and a.grad is not None and float(a.grad.abs().sum()) > 0
    assert not any(value.requires_grad for value in loss.network.parameters())


def test_arcface_takes_its_weights_only(arcface_file: Path, tmp_path: Path) -> None:
    state = torch.load(arcface_file, weights_only=True)
    state["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "more.pth")
    with pytest.raises(UnsupportedCheckpoint, match=r"more\.pth: not the weights of ArcFace: 1 tensors.*extra\.weight"):
        ArcFaceIdentity(tmp_path / "more.pth")
