"""The CUDA kernels' phases, run on the host under sanitizers: against the per-pixel oracle and against PyTorch.

What this cannot see: races within a phase, the launch configuration, device code for half precision.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from facelatent.cuda_kernels.arguments import DTYPES
from facelatent.cuda_kernels.store import SOURCES
from facelatent.stylegan_ops import bias_act, upfirdn2d
from facelatent.stylegan_ops.bias_act import ACTIVATIONS

FLAGS = ["-std=c++17", "-O1", "-Wno-unknown-pragmas", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
TOLERANCE = {"float32": 1e-6, "float64": 1e-13, "float16": 2e-3, "bfloat16": 1.6e-2}
SOURCE = Path(__file__).parent / "emulator" / "emulator.cpp"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    torch.manual_seed(0)  # at a clamp's limits, rounding decides
    program = tmp_path_factory.mktemp("emulator") / "emulator"
    empty = program.with_suffix(".cpp")
    empty.write_text("int main() { return 0; }")
    if subprocess.run([compiler, *FLAGS, empty, "-o", program], capture_output=True).returncode:
        pytest.skip("the compiler does not link the sanitizers")
    done = subprocess.run([compiler, *FLAGS, f"-I{SOURCES}", SOURCE, "-o", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return program


def raw(x: Tensor) -> bytes:
    """The memory of a dense tensor."""
    return x.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def run(emulator: Path, folder: Path, cases: list[bytes], wanted: list[Tensor]) -> None:
    """Run all cases; ``wanted`` are their results in the order of memory."""
    (folder / "cases").write_bytes(b"".join(cases))
    done = subprocess.run([emulator, folder / "cases", folder / "results"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found = memoryview((folder / "results").read_bytes())
    for index, result in enumerate(wanted):
        size = result.numel() * result.element_size()
        values = torch.frombuffer(bytearray(found[:size]), dtype=result.dtype).view_as(result)
        found = found[size:]
        tolerance = TOLERANCE[str(result.dtype)[6:]]
        torch.testing.assert_close(values, result, rtol=tolerance, atol=tolerance, msg=lambda m, i=index: f"{i}: {m}")
    assert not found


def filtered(dtype: str, layout: str, up: int, down: int, size: list[int], pads: list[int]) -> tuple[bytes, Tensor]:
    """A case of upfirdn2d and its result in the order of memory."""
    taps_x, taps_y = torch.tensor([0.1, 0.5, -0.3, 0.8]).double(), torch.tensor([0.7, -0.2, 0.4, 0.3]).double()
    x = torch.randn(size, dtype=torch.float64).to(getattr(torch, dtype))
    wide = x.double() if dtype == "float64" else x.float()
    # flip_filter: the emulator takes filters in the order of a correlation.
    f = torch.outer(taps_y, taps_x)
    y = upfirdn2d(wide, f, up, down, pads, flip_filter=True, backend="reference").to(x.dtype)
    if layout == "pixels":
        x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
    n, c, h, w = size
    out_h, out_w = (y.shape[1:3]) if layout == "pixels" else (y.shape[2:4])
    fields = [0, DTYPES[dtype], layout == "pixels", n, c, h, w, out_h, out_w, up, down, pads[0], pads[2]]
    return np.array(fields, np.int64).tobytes() + raw(torch.cat([taps_x, taps_y])) + raw(x), y.contiguous()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["planes", "pixels"])
def test_tiled_upfirdn2d(emulator: Path, tmp_path: Path, dtype: str, layout: str) -> None:
    lanes = 16 // getattr(torch, dtype).itemsize
    channels = 5 * lanes if layout == "pixels" else 3  # five vectors: the last group of a tile is not full
    small = [[1, 1, 1, 1], [2, 1, 2, 1], [2, 2, 2, 2], [-1, 3, 2, -2], [3, 0, -1, 4]]
    cases = [([2, channels, 7, 5], pads) for pads in small]
    cases += [([1, channels, 67, 71], [1, 1, 1, 1]), ([1, channels, 66, 131], [2, 1, 2, 1])]
    made = [
        filtered(dtype, layout, up, down, size, pads)
        for (up, down), (size, pads) in itertools.product([(1, 1), (2, 1), (1, 2)], cases)
    ]
    run(emulator, tmp_path, [case for case, _ in made], [result for _, result in made])


def activated(dtype: str, act: str, order: int, shape: list[int], dim: int | None, skip: int) -> tuple[bytes, Tensor]:
    """A case of bias_act, with ``skip`` elements before each tensor, and its result after as many zeros."""
    kind = getattr(torch, dtype)
    x, g, h = (torch.randn(shape, dtype=torch.float64).mul(2).to(kind) for _ in range(3))
    b = None if dim is None else torch.randn(shape[dim], dtype=torch.float64).to(kind)
    alpha, gain, clamp = 0.3, 1.7, 1.5
    u = x.double().requires_grad_()
    y = bias_act(u, None if b is None else b.double(), dim or 0, act, alpha, gain, clamp, backend="reference")
    if order > 0:
        (y,) = torch.autograd.grad(y, u, g.double(), create_graph=True)
    if order > 1:
        second = torch.autograd.grad(y, u, h.double(), allow_unused=True)[0] if y.requires_grad else None
        y = torch.zeros_like(y) if second is None else second
    step = int(np.prod(shape[dim + 1 :])) if dim is not None else 1
    size = 0 if b is None else len(b)
    fields = [1, DTYPES[dtype], order, list(ACTIVATIONS).index(act), x.numel(), size, step, skip]
    lead = torch.zeros(skip, dtype=kind)
    tensors = [torch.cat([lead, t.flatten()]) for t in (x, g, h)]
    tensors = [tensors[0], torch.zeros(0, dtype=kind) if b is None else b, *tensors[1:]][: order + 2]
    content = np.array(fields, np.int64).tobytes() + np.array([alpha, gain, clamp]).tobytes()
    return content + b"".join(map(raw, tensors)), torch.cat([lead, y.detach().to(kind).flatten()])


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectorised_bias_act(emulator: Path, tmp_path: Path, dtype: str) -> None:
    layouts: list[tuple[list[int], int | None, int]] = [
        ([2, 3, 4, 4], 1, 0),  # one bias a vector
        ([3, 5, 16], 2, 0),  # consecutive biases
        ([2, 5, 7], 1, 0),  # scattered, with a remainder
        ([33], None, 0),
        ([2, 3, 16], 1, 1),  # misaligned
    ]
    made = [
        activated(dtype, act, order, *layout)
        for act, order, layout in itertools.product(ACTIVATIONS, range(3), layouts)
    ]
    run(emulator, tmp_path, [case for case, _ in made], [result for _, result in made])
