"""What the tests share: isolation from the user's cache and network, a tiny generator, and the real weights."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facelatent.assets import asset_path, cache_dir
from facelatent.boundaries import Boundary
from facelatent.errors import AssetUnavailable
from facelatent.images import open_image, to_tensor
from facelatent.stylegan_ops import DEFAULT_GENERATOR, Generator, MobileStyleGAN, load_generator, save_generator
from facelatent.stylegan_ops import generator as generator_module

#: Samples for the tiny generator's statistics: more than its 512 dimensions, so that the covariance has full rank.
STATISTICS_SAMPLES = 2048
#: The user's compiled kernels: named by their sources and compiler, so that tests may share them and compile but once.
KERNELS = cache_dir() / "kernels"


# One thread: tiny networks gain nothing from more, and threads that wait for busy cores cost seconds.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))


@pytest.fixture(autouse=True)
def isolated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> None:
    """Tests not marked ``assets`` get a cache without assets, and pip without an index: they fetch nothing.

    None reads the user's config file.
    """
    monkeypatch.setenv("FACELATENT_CONFIG", "")
    if not request.node.get_closest_marker("assets"):
        cache = tmp_path_factory.mktemp("cache")
        KERNELS.mkdir(parents=True, exist_ok=True)
        (cache / KERNELS.name).symlink_to(KERNELS)
        monkeypatch.setenv("FACELATENT_CACHE", str(cache))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Folder of the numbers and pictures that public systems computed."""
    return Path(__file__).parent / "goldens"


@pytest.fixture(scope="session")
def asset() -> Callable[[str], Path]:
    """Path of a real asset by name, for tests marked ``assets``; they fail, never skip, where it cannot be had."""

    def find(name: str) -> Path:
        try:
            return asset_path(name)
        except AssetUnavailable as error:
            pytest.fail(f"tests marked 'assets' need {name} from the package index: {error}", pytrace=False)

    return find


@pytest.fixture(scope="session")
def mobile(asset: Callable[[str], Path]) -> Generator:
    """The default generator with its real weights, on the CPU."""
    asset(DEFAULT_GENERATOR)
    return load_generator(DEFAULT_GENERATOR, device="cpu")


@pytest.fixture(scope="session")
def astronaut(asset: Callable[[str], Path]) -> Tensor:
    """The astronaut portrait, [1, 3, 512, 512] in [-1, 1]."""
    return to_tensor(open_image(asset("astronaut")))


def make_tiny_generator(seed: int = 0, channels: tuple[int, ...] = (32, 32, 32, 32)) -> MobileStyleGAN:
    """A MobileStyleGAN (64 px, 8 W+ layers unless told otherwise) with random weights.

    Variances are kept from layer to layer, so that pictures vary with w and stay near [-1, 1]. Its statistics come
    from :data:`STATISTICS_SAMPLES` samples.
    """
    random = torch.Generator().manual_seed(seed)
    generator = MobileStyleGAN(f"tiny-{seed}", channels)
    for name, value in generator.state_dict().items():
        if name.startswith("w_"):
            continue
        scale, offset = 0.1, 0.0
        if name.endswith(("affine.bias", "up.bias", "to_img.bias")):
            offset = 1.0
        elif name.endswith(("affine.weight", "up.weight", "to_img.weight")):
            scale = 0.4 / math.sqrt(value.shape[1])
        elif name.startswith("mapping_network") and name.endswith("weight"):
            scale = 1 / math.sqrt(value.shape[1])
        elif name == "const":
            scale = 1.0
        elif name.endswith("depthwise"):
            scale = 1 / 3
        elif name.endswith("weight"):
            scale = math.sqrt(2 / value[0].numel())
        value.copy_(torch.randn(value.shape, generator=random) * scale + offset)
    generator.to_img_weight.mul_(0.4)
    generator.to_img_weight[3:].mul_(0.2)  # pictures are smooth: little of their energy is in the high bands
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator_module, "_STATISTICS_SAMPLES", STATISTICS_SAMPLES)
        generator.measure_w()
    return generator.eval()


@pytest.fixture(scope="session")
def tiny_generator_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny generator as a file that ``load_generator`` and ``--generator`` take; see :func:`make_tiny_generator`."""
    path = tmp_path_factory.mktemp("generator") / "tiny.safetensors"
    save_generator(make_tiny_generator(), path)
    return path


@pytest.fixture(scope="session")
def tiny_generator(tiny_generator_file: Path) -> Generator:
    """The same as commands load it, bit for bit. Shared by all tests: change only a deep copy of it."""
    return load_generator(tiny_generator_file, device="cpu")


@pytest.fixture
def tiny(tiny_generator_file: Path) -> tuple[str, ...]:
    """Options of a command that uses the tiny generator."""
    return ("--generator", str(tiny_generator_file), "--device", "cpu")


@pytest.fixture
def grin(tmp_path: Path, tiny_generator: MobileStyleGAN) -> Path:
    """A boundary of the tiny generator, a random direction on all layers."""
    path = tmp_path / "grin.boundary.safetensors"
    normal = torch.randn(512, generator=torch.Generator().manual_seed(0))
    Boundary("grin", normal / normal.norm(), 0.0, 3.0, None, tiny_generator.name, tiny_generator.fingerprint).save(path)
    return path


def bomb(path: Path) -> None:
    """A PNG of 20,000 x 20,000 black pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 2500)) for _ in range(20_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
