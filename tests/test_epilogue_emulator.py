"""The CUDA kernels of the fused epilogue, their phases run on the host: under sanitizers against the per-pixel oracle,
and through the Python side of their launch against the plain PyTorch twin.

What this cannot see: races within a phase, launches themselves, device code for half precision.
"""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_epilogue import NAMES, close, example
from torch import Tensor

from facelatent.cuda_kernels import arguments, load
from facelatent.cuda_kernels.store import SOURCES
from facelatent.stylegan_ops import StyleGAN2, StyleGAN2Config, fused, stylegan2
from facelatent.stylegan_ops import epilogue as module
from facelatent.stylegan_ops.epilogue import epilogue, skip_add
from facelatent.stylegan_ops.generator import Noise

SOURCE = Path(__file__).parent / "emulator" / "epilogue.cpp"
FLAGS = ["-std=c++17", "-O1", "-Wno-unknown-pragmas", f"-I{SOURCES}"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
BARS = {torch.float32: 2e-5, torch.float64: 1e-12, torch.float16: 4e-3, torch.bfloat16: 3e-2}

Compile = Callable[..., Path]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")

    def build(source: Path, *flags: str) -> Path:
        target = tmp_path_factory.mktemp("emulator") / "epilogue.so"
        done = subprocess.run([compiler, *FLAGS, *flags, source, "-o", target], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        return target

    return build


@pytest.fixture
def emulated(compiled: Compile, library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``backend="cuda"`` mean the emulator, for tensors on the CPU."""

    def launch(kind: str, name: str, call: Any, device: torch.device) -> None:
        assert kind == "cuda"
        arguments.launch("cuda", name, arguments.stamped(call))

    monkeypatch.setitem(load._outcomes, "cuda", library)
    for user in (module, fused):
        monkeypatch.setattr(user, "launch", launch)
    for user in (module, stylegan2):
        monkeypatch.setattr(user, "chosen", lambda backend, device: backend or "reference")
    resampling = sys.modules["facelatent.stylegan_ops.upfirdn2d"]  # the package's attribute is the function
    monkeypatch.setattr(resampling, "chosen", lambda backend, device: "reference")
    arguments._launcher.cache_clear()
    yield
    arguments._launcher.cache_clear()


@pytest.fixture(scope="module")
def library(compiled: Compile) -> ctypes.CDLL:
    return ctypes.CDLL(str(compiled(SOURCE, "-shared", "-fPIC")))


def test_phases_equal_the_oracle_under_sanitizers(compiled: Compile, tmp_path: Path) -> None:
    empty = tmp_path / "empty.cpp"
    empty.write_text("int main() { return 0; }")
    try:
        compiled(empty, *SANITIZERS)
    except RuntimeError:
        pytest.skip("the compiler does not link the sanitizers")
    program = compiled(SOURCE, *SANITIZERS, "-DSELF_CHECK")
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


SHAPES = [(2, 16, 5, 6), (1, 7, 9, 11), (1, 130, 3, 2), (2, 40, 1, 37), (1, 32, 40, 9), (1, 1, 1, 1)]
MISSING = [(), NAMES, ("demodulation", "style"), ("noise", "bias"), ("rgb_weight",)]


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("blur", [False, True])
def test_the_launch_equals_the_twin(emulated: None, dtype: torch.dtype, blur: bool) -> None:
    for shape, missing, clamp in itertools.product(SHAPES, MISSING, (None, 0.7)):
        case = example(*shape, blur, dtype, missing)
        for want_y in (True, False):
            found = epilogue(**case, clamp=clamp, want_y=want_y, backend="cuda")
            expected = epilogue(**case, clamp=clamp, want_y=want_y, backend="reference")
            for one, other in zip(found, expected, strict=True):
                close(one, other, BARS[dtype])


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("blur", [False, True])
def test_gradients_equal_the_twins(emulated: None, dtype: torch.dtype, blur: bool) -> None:
    for shape, missing, clamp in itertools.product(SHAPES, MISSING, (None, 0.7)):
        case = example(*shape, blur, dtype, missing)
        tensors = [t for t in case.values() if isinstance(t, Tensor)]
        for want_y in (True, False):
            found = []
            for backend in ("cuda", "reference"):
                for t in tensors:
                    t.requires_grad_()
                parts = [p for p in epilogue(**case, clamp=clamp, want_y=want_y, backend=backend) if p is not None]
                loss = sum(((p.double() + i) ** 2).sum() for i, p in enumerate(parts))
                if not parts:
                    break
                found.append(torch.autograd.grad(loss, tensors, allow_unused=True))
            for one, other in zip(*found, strict=True) if found else ():
                close(one, torch.zeros_like(one) if other is None else other, 2 * BARS[dtype])


@pytest.mark.parametrize("blur", [False, True])
def test_first_and_second_gradients_are_exact(emulated: None, blur: bool) -> None:
    case = example(2, 3, 2, 3, blur, torch.float64)
    keys = [key for key, value in case.items() if isinstance(value, Tensor)]

    def function(*tensors: Tensor) -> tuple[Tensor | None, ...]:
        return epilogue(**{**case, **dict(zip(keys, tensors, strict=True))}, clamp=1.0, backend="cuda")

    inputs = [case[key].requires_grad_() for key in keys]
    torch.autograd.gradcheck(function, inputs)
    torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("blur", [False, True])
@pytest.mark.parametrize("clamp", [None, 1.0])
def test_nan_stays_nan(emulated: None, blur: bool, clamp: float | None) -> None:
    case = example(1, 8, 6, 6, blur)
    case["x"][0, 3, 3, 3] = float("nan")
    found, expected = (epilogue(**case, clamp=clamp, backend=name) for name in ("cuda", "reference"))
    for one, other in zip(found, expected, strict=True):
        assert one is not None and other is not None
        assert one.isnan().any() and torch.equal(one.isnan(), other.isnan())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clamp", [None, 0.7])
def test_skip_add(emulated: None, dtype: torch.dtype, clamp: float | None) -> None:
    for h, w in ((2, 2), (6, 4), (10, 14)):
        rgb, bias, smaller = (torch.randn(s, dtype=dtype) for s in ((2, 3, h, w), (3,), (2, 3, h // 2, w // 2)))
        for previous in (None, smaller):
            found, expected = (skip_add(rgb, bias, clamp, previous, backend=b) for b in ("cuda", "reference"))
            close(found, expected, BARS[dtype])


def random_generator(config: StyleGAN2Config) -> StyleGAN2:
    """Of random weights: styles near one, noise that shows."""
    torch.manual_seed(5)
    generator = StyleGAN2("random", config)
    for name, value in generator.named_parameters():
        torch.nn.init.normal_(value, float(name.endswith("affine.bias")), 0.5)
    for name, value in generator.named_buffers():
        if name.endswith("noise"):
            torch.nn.init.normal_(value)
    return generator


@pytest.mark.parametrize("noise", ["const", "none"])
@pytest.mark.parametrize("clamp", [None, 2.0])
def test_pictures_equal_the_reference(emulated: None, noise: Noise, clamp: float | None) -> None:
    """The synthesis as a GPU draws it without gradients, each layer's colours added to the picture by its kernel."""
    generator = random_generator(StyleGAN2Config((24, 16, 7), z_dim=8, w_dim=8, mapping_layers=1, conv_clamp=clamp))
    ws = torch.randn(2, generator.num_ws, 8)
    generator.backend = "cuda"
    found = generator.synthesis(ws, noise)
    recorded = generator.synthesis(ws.clone().requires_grad_(), noise)
    generator.backend = "reference"
    expected = generator.synthesis(ws, noise)
    close(found, expected, 1e-5)
    close(recorded, expected, 1e-5)


def test_gradients_of_a_picture_equal_the_references(emulated: None) -> None:
    generator = random_generator(StyleGAN2Config((16, 12, 7), z_dim=8, w_dim=8, mapping_layers=1))
    generator.synthesis_network.requires_grad_(True)
    found = []
    for backend in ("cuda", "reference"):
        generator.backend = backend
        ws = torch.randn(2, generator.num_ws, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
        loss = generator.synthesis(ws).square().mean()
        found.append(torch.autograd.grad(loss, (ws, *generator.synthesis_network.parameters())))
    for one, other in zip(*found, strict=True):
        close(one, other, 1e-4)
