"""Every CUDA source compiles, without spilling registers, for architectures of every generation; needs no GPU.

All that nvcc knows would take minutes on two cores: FACELATENT_TEST_ARCH=all, or ``benchmarks/registers.py``.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from facelatent.cuda_kernels import compiling, store, toolchain
from facelatent.errors import KernelsUnavailable

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import registers

#: Turing, Ampere, Hopper, Blackwell: the oldest, the newest, and those with instructions of their own.
GENERATIONS = (75, 80, 90, 120)
#: A kernel that spills on purpose, so that the report is known to see it.
SPILLING = """
__global__ void __launch_bounds__(1024) calm(float* x) { x[threadIdx.x] *= 2; }
__global__ void __launch_bounds__(1024) spilling(float* x, const int* at) {
    __shared__ float tile[100];
    float kept[200];
#pragma unroll
    for (int i = 0; i < 200; i++) kept[i] = x[i * 1024 + threadIdx.x];
    tile[threadIdx.x % 100] = kept[3];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 200; i++) x[at[i]] = kept[i] * kept[(i * 7) % 200] + tile[i % 100];
}
extern "C" int facelatent_test() { return 7; }
"""


@pytest.fixture(scope="module")
def nvcc() -> str:
    try:
        return toolchain.nvcc()
    except KernelsUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "test.cu").write_text(SPILLING)
    return tmp_path


@pytest.mark.slow
def test_no_kernel_spills(nvcc, record_property):
    if not list(store.SOURCES.glob(store.UNITS["cuda"])):
        pytest.skip("there are no CUDA sources")
    known = [str(one) for one in toolchain.nvcc_architectures(nvcc) if one in GENERATIONS]
    rows = registers.report(os.environ.get("FACELATENT_TEST_ARCH", ",".join(known)))
    assert rows
    record_property("registers", rows)
    spilling = [row for row in rows if row["spill stores"]]
    assert not spilling, "\n".join(map(str, spilling))


def test_the_report_sees_spills(nvcc, sources):
    rows = {row["kernel"].partition("(")[0]: row for row in registers.report("90", sources)}
    assert rows.keys() == {"calm", "spilling"}
    assert rows["calm"]["spill stores"] == rows["calm"]["shared"] == 0
    assert 0 < rows["calm"]["registers"] < 20
    assert rows["spilling"]["spill stores"] > 0
    assert rows["spilling"]["shared"] == 400
    assert {row["arch"] for row in rows.values()} == {"sm_90"}


def test_a_source_that_does_not_compile_is_reported(nvcc, tmp_path):
    (tmp_path / "test.cu").write_text("__global__ void broken() { nothing; }")
    with pytest.raises(RuntimeError, match=r"test\.cu does not compile for sm_90"):
        registers.report("90", tmp_path)


def test_the_library_loads_without_a_gpu(nvcc, sources):
    path = compiling.obtain("cuda", "80,90", folder=sources)
    assert ctypes.CDLL(str(path)).facelatent_test() == 7
    assert compiling.obtain("cuda", "90,80", folder=sources) == path
    assert compiling.obtain("cuda", "90", folder=sources) != path


def test_an_error_in_a_source_is_shown(nvcc, tmp_path):
    (tmp_path / "test.cu").write_text("\n__global__ void broken() { nothing; }")
    with pytest.raises(KernelsUnavailable, match=r'test\.cu\(2\): error: identifier "nothing" is undefined'):
        compiling.obtain("cuda", "90", folder=tmp_path)


def test_an_architecture_that_nvcc_does_not_know(nvcc, sources):
    oldest = toolchain.nvcc_architectures(nvcc)[0]
    with pytest.raises(KernelsUnavailable, match=f"cannot compile for sm_{oldest - 5}"):
        compiling.obtain("cuda", str(oldest - 5), folder=sources)
