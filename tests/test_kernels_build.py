"""Building and loading kernels: nothing at import, once for each key, and one clear line where it cannot be done.

Small sources stand in for the real ones; scripts stand in for compilers that are slow, broken or not installed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from filelock import FileLock

from facelatent import cuda_kernels
from facelatent.cli import main
from facelatent.cuda_kernels import compiling, load, store, toolchain
from facelatent.cuda_kernels.compiling import obtain
from facelatent.errors import KernelsUnavailable
from facelatent.stylegan_ops.backend import chosen
from facelatent.stylegan_ops.upfirdn2d import setup_filter, upfirdn2d

REPOSITORY = Path(__file__).parents[1]
COMPILER = shutil.which("c++")
KNOWN = (75, 80, 86, 90, 120)

HEADER = "#define ANSWER 42\n"
UNIT = """
#include "answer.h"
extern "C" int answer() { return ANSWER; }
extern "C" int threads() {
    int count = 0;
#pragma omp parallel num_threads(2) reduction(+ : count)
    count += 1;
    return count;
}
"""

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this process knows of compilers, GPUs and failures, before and after, and what the user has set."""
    for name in ("CXX", "CUDA_HOME", "CUDA_PATH", "NVCC_CCBIN", "FACELATENT_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(load, "_outcomes", {})
    monkeypatch.setattr(load, "_warned", set())
    monkeypatch.setattr(toolchain, "_DRIVER", "/nowhere/libcuda.so.1")
    monkeypatch.setattr(toolchain, "_CUDA_ROOT", "/nowhere")
    questions = (toolchain._output, toolchain.gpus)
    for cached in questions:
        cached.cache_clear()
    yield
    for cached in questions:
        cached.cache_clear()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sources, in use by this process."""
    folder = tmp_path / "sources of someone"
    folder.mkdir()
    (folder / "answer.h").write_text(HEADER)
    (folder / "cpu_answer.cpp").write_text(UNIT)
    monkeypatch.setattr(store, "SOURCES", folder)
    return folder


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's libraries are kept: an empty folder of the cache."""
    monkeypatch.setenv("FACELATENT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def counting(path: Path, before: str = "") -> tuple[Path, Callable[[], int]]:
    """A compiler that runs ``before`` and then works, and how many files it has compiled."""
    log = path.with_suffix(".log")
    counted = f"case ' '$*' ' in *' -c '*) echo compiled >> '{log}'; {before or ':'};; esac"
    script(path, f'{counted}\nexec {COMPILER} "$@"')
    return path, lambda: log.read_text().count("compiled") if log.exists() else 0


def fake_nvcc(root: Path, compile_body: str = "exit 1", version: str = "13.0") -> Path:
    """A CUDA toolkit whose nvcc answers questions, and runs ``compile_body`` for everything else."""
    listing = "\n".join(f"compute_{one}" for one in KNOWN)
    script(
        root / "bin" / "nvcc",
        f"""case "$1" in
--version) echo 'Cuda compilation tools, release {version}, V{version}.88';;
--list-gpu-arch) echo '{listing}';;
*) {compile_body};;
esac""",
    )
    return root


def problem(function: Callable[..., object], *arguments: object, **options: object) -> str:
    """The message, one line, of a call that must fail."""
    with pytest.raises(KernelsUnavailable) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def gpus(*architectures: int, driver: tuple[int, int] = (13, 0)) -> Callable[[], toolchain.Gpus]:
    return lambda: toolchain.Gpus(driver, architectures)


def without_compiler(*_: object, **__: object) -> Path:
    pytest.fail("compiled")


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


# The cache


@needs_compiler
def test_compiled_once_and_loaded(sources, kernels, monkeypatch):
    path = obtain("cpu")
    assert path.parent == kernels
    assert path.name.startswith("cpu-")
    assert ctypes.CDLL(str(path)).answer() == 42
    assert leftovers(kernels) == []
    monkeypatch.setattr(compiling, "_compile", without_compiler)
    assert obtain("cpu") == path
    assert cuda_kernels.library("cpu").answer() == 42
    assert cuda_kernels.build_cpu() == path


@needs_compiler
@pytest.mark.parametrize("name", ["answer.h", "cpu_answer.cpp"])
def test_changed_sources_make_another_library(name, sources, kernels):
    before = obtain("cpu")
    (sources / name).write_text((sources / name).read_text().replace("42", "43") + "\n// changed\n")
    after = obtain("cpu")
    assert after != before
    assert before.is_file()
    assert ctypes.CDLL(str(after)).answer() == (43 if name == "answer.h" else 42)


def test_the_key_holds_everything_that_the_library_depends_on(sources):
    content = store.read_sources("cpu", sources)
    recipe = toolchain.Recipe("cpu", ("/bin/c++",), "c++ 12", "c++", ("-O3",), ("-shared",), ("x86_64 avx2",), ("",))
    others = [
        toolchain.Recipe(**{**vars(recipe), name: value})
        for name, value in {
            "kind": "cuda",
            "compiler": ("/bin/g++",),
            "version": "c++ 13",
            "flags": ("-O2",),
            "link_flags": ("-shared", "-s"),
            "targets": ("x86_64 avx512f",),
            "environment": ("-G",),
        }.items()
    ]
    names = {store.library_name(one, content) for one in [recipe, *others]}
    names.add(store.library_name(recipe, {**content, "answer.h": b"#define ANSWER 43\n"}))
    names.add(store.library_name(recipe, {**content, "more.h": b""}))
    assert len(names) == len(others) + 3
    assert store.library_name(recipe, dict(content)) in names


def test_sources_of_the_other_kind_do_not_matter(sources):
    before = store.read_sources("cpu", sources)
    (sources / "answer.cu").write_text("")
    assert store.read_sources("cpu", sources) == before
    assert set(store.read_sources("cuda", sources)) == {"answer.cu", "answer.h"}


def test_no_sources(tmp_path, kernels):
    assert "reinstall facelatent" in problem(obtain, "cpu", folder=tmp_path)


@needs_compiler
def test_a_truncated_library_is_compiled_again(sources, kernels):
    path = obtain("cpu")
    content = path.read_bytes()
    for wrong in (b"", content[: len(content) // 2], content[:-1], bytes(len(content))):
        path.unlink()  # not written in place: what is loaded stays as it is
        path.write_bytes(wrong)
        assert obtain("cpu") == path
        assert ctypes.CDLL(str(path)).answer() == 42


@needs_compiler
def test_a_library_without_its_record_is_compiled_again(sources, kernels):
    path = obtain("cpu")
    for wrong in ("", "{}", '{"flags": []}', "[]", "null"):
        path.with_suffix(".json").write_text(wrong)
        assert not store.intact(path)
    assert obtain("cpu") == path
    assert store.intact(path)


@needs_compiler
def test_a_whole_library_that_does_not_load_is_compiled_again(sources, kernels):
    path = obtain("cpu")
    path.unlink()
    path.write_bytes(b"not a library")
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**record, "sha256": store.sha256_of(path)}))
    assert cuda_kernels.library("cpu").answer() == 42


@needs_compiler
def test_a_library_that_never_loads(sources, kernels, tmp_path, monkeypatch):
    (sources / "cpu_answer.cpp").write_text('extern "C" int missing(); int table = missing();')
    compiler, compiled = counting(tmp_path / "c++")
    monkeypatch.setenv("CXX", str(compiler))
    for _ in range(3):
        assert "does not load" in problem(cuda_kernels.library, "cpu")
    assert compiled() == 2


@needs_compiler
@pytest.mark.parametrize("cache", ["/proc/facelatent", "/dev/null/facelatent"])
def test_a_cache_that_cannot_be_written(cache, sources, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("FACELATENT_CACHE", cache)
    with pytest.warns(RuntimeWarning, match="cannot be written") as seen:
        assert cuda_kernels.library("cpu").answer() == 42
    assert len(seen) == 1, [str(one.message) for one in seen]
    folder = store.temporary_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    load._outcomes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(compiling, "_compile", without_compiler)
        assert cuda_kernels.library("cpu").answer() == 42


@needs_compiler
def test_a_read_only_cache_that_has_the_library(sources, kernels, monkeypatch):
    path = obtain("cpu")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("TemporaryFile", "TemporaryDirectory", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    assert obtain("cpu") == path


@needs_compiler
def test_nothing_can_be_written(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("FACELATENT_CACHE", "/proc/facelatent")
    others = store.temporary_folder()
    others.mkdir()
    others.chmod(0o777)  # anybody may put a library there
    assert "set FACELATENT_CACHE" in problem(obtain, "cpu")
    assert list(others.iterdir()) == []
    with pytest.warns(RuntimeWarning, match="using plain PyTorch"):
        assert not cuda_kernels.available("cpu")


def test_a_folder_that_someone_prepared_is_not_trusted(tmp_path):
    folder = tmp_path / "folder"
    assert not store.is_private(folder)
    folder.mkdir(mode=0o700)
    assert store.is_private(folder)
    (tmp_path / "link").symlink_to(folder)
    assert not store.is_private(tmp_path / "link")
    folder.chmod(0o770)
    assert not store.is_private(folder)


# Several processes


def child(*lines: str, **environment: str) -> subprocess.Popen[str]:
    """A process that uses the sources of this test."""
    code = "\n".join(
        [
            "import sys, pathlib",
            "from facelatent.cuda_kernels import compiling, store",
            f"store.SOURCES = pathlib.Path({str(store.SOURCES)!r})",
            *lines,
        ]
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited too long"
        time.sleep(0.02)


@needs_compiler
def test_processes_at_once_compile_once(sources, kernels, tmp_path, monkeypatch):
    compiler, compiled = counting(tmp_path / "c++", "sleep 0.5")
    monkeypatch.setenv("CXX", str(compiler))
    processes = [child("print(compiling.obtain('cpu'))") for _ in range(3)]
    paths = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(paths) == 1
    assert compiled() == 1


@needs_compiler
def test_a_killed_build_leaves_nothing_that_matters(sources, kernels, tmp_path, monkeypatch):
    asleep = tmp_path / "asleep"
    compiler, compiled = counting(tmp_path / "c++", f'[ -e "{asleep}" ] || {{ echo $$ > "{asleep}"; exec sleep 60; }}')
    monkeypatch.setenv("CXX", str(compiler))
    process = child("compiling.obtain('cpu')")
    until(lambda: asleep.exists() and asleep.read_text().endswith("\n"))
    process.kill()
    process.communicate()
    assert len(leftovers(kernels)) == 1
    assert list(kernels.glob("*.so")) == []
    began = time.monotonic()
    assert ctypes.CDLL(str(obtain("cpu"))).answer() == 42
    assert time.monotonic() - began < 10
    assert compiled() == 2
    assert leftovers(kernels) == []
    os.kill(int(asleep.read_text()), signal.SIGKILL)


@needs_compiler
def test_other_builds_are_swept_when_they_must_be_dead(sources, kernels):
    kernels.mkdir(parents=True)
    for name in (".build-cpu-0-old", ".extra-cpu-0-old", ".build-cpu-0-new"):
        (kernels / name).mkdir()
        if name.endswith("old"):
            os.utime(kernels / name, (0, 0))
    obtain("cpu")
    assert leftovers(kernels) == [".build-cpu-0-new"]


@needs_compiler
def test_a_lock_that_lasts_does_not_hang(sources, kernels, monkeypatch, caplog):
    monkeypatch.setattr(compiling, "LOCK_SECONDS", 0.2)
    target = kernels / store.library_name(toolchain.recipe("cpu"), store.read_sources("cpu", sources))
    kernels.mkdir(parents=True)
    with FileLock(target.with_suffix(".lock")), caplog.at_level(logging.INFO, "facelatent.cuda_kernels"):
        assert obtain("cpu") == target
    assert "waiting for another process" in caplog.text
    assert "without the lock" in caplog.text
    assert ctypes.CDLL(str(target)).answer() == 42


@needs_compiler
def test_a_lock_file_that_nobody_holds(sources, kernels, monkeypatch):
    monkeypatch.setattr(compiling, "LOCK_SECONDS", 0.0)
    target = kernels / store.library_name(toolchain.recipe("cpu"), store.read_sources("cpu", sources))
    kernels.mkdir(parents=True)
    target.with_suffix(".lock").touch()
    assert obtain("cpu") == target


@needs_compiler
def test_a_file_system_without_locks(sources, kernels, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert ctypes.CDLL(str(obtain("cpu"))).answer() == 42


@needs_compiler
def test_a_compiler_that_never_ends(sources, kernels, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "BUILD_SECONDS", 1.0)
    asleep = tmp_path / "asleep"
    compiler, _ = counting(tmp_path / "c++", f'echo $$ > "{asleep}"; exec sleep 60')
    monkeypatch.setenv("CXX", str(compiler))
    assert "took longer" in problem(obtain, "cpu")
    pid = int(asleep.read_text())
    state = Path(f"/proc/{pid}/stat")
    until(lambda: not state.exists() or state.read_text().split()[2] == "Z")
    assert leftovers(kernels) == []


# The C++ compiler


def test_no_compiler(sources, kernels, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "install g++" in problem(obtain, "cpu")
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler") as seen:
        assert chosen(None, torch.device("cpu")) == "reference"
        assert chosen("auto", torch.device("cpu")) == "reference"
    assert len(seen) == 1, [str(one.message) for one in seen]
    x = torch.randn(1, 2, 8, 8)
    assert upfirdn2d(x, setup_filter([1, 3, 3, 1]), up=2).shape == (1, 2, 13, 13)
    assert "no C++ compiler" in problem(chosen, "cpu", torch.device("cpu"))
    assert "no C++ compiler" in cuda_kernels.status()


@needs_compiler
def test_built_ahead_where_there_was_a_compiler(sources, kernels, monkeypatch):
    path = obtain("cpu")
    monkeypatch.setenv("PATH", "/nowhere")
    assert obtain("cpu") == path
    assert "ready" in cuda_kernels.status()
    assert cuda_kernels.library("cpu").answer() == 42
    monkeypatch.setattr(store, "cpu_features", lambda: "x86_64 another processor")
    assert "install g++" in problem(obtain, "cpu")
    monkeypatch.undo()


@needs_compiler
def test_cxx_is_honoured(sources, kernels, tmp_path, monkeypatch):
    compiler, compiled = counting(tmp_path / "my compiler" / "c++$1")
    monkeypatch.setenv("CXX", f"'{compiler}' -DMINE")
    path = obtain("cpu")
    assert compiled() == 1
    record = store.record_of(path)
    assert record is not None
    assert str(compiler) in record.compiler
    assert "-DMINE" in record.compiler


def test_cxx_that_is_no_program(sources, kernels, monkeypatch):
    monkeypatch.setenv("CXX", "g++-1000")
    assert "CXX names 'g++-1000'" in problem(obtain, "cpu")


def test_a_compiler_that_does_not_run(sources, kernels, tmp_path, monkeypatch):
    for number, body in enumerate(("exit 3", "echo no licence >&2; exit 1")):
        monkeypatch.setenv("CXX", str(script(tmp_path / f"c++{number}", body)))
        assert "reinstall" in problem(obtain, "cpu")
    (tmp_path / "text").write_text("not a program")
    (tmp_path / "text").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "text"))
    assert "does not run" in problem(obtain, "cpu")


@needs_compiler
def test_errors_of_the_compiler_are_shown(sources, kernels):
    (sources / "cpu_answer.cpp").write_text("int warning = 1;\nint x = undefined_name;\nint y = other_name;\n")
    message = problem(obtain, "cpu")
    assert "cpu_answer.cpp:2:9: error: " in message
    assert "undefined_name" in message
    assert "other_name" not in message
    log = Path(message.split("Log: ")[1])
    assert "other_name" in log.read_text()
    assert log.parent == kernels
    assert leftovers(kernels) == []


@needs_compiler
def test_a_failure_is_remembered_and_told_once(sources, kernels, tmp_path, monkeypatch):
    (sources / "cpu_answer.cpp").write_text("#error no such luck\n")
    compiler, compiled = counting(tmp_path / "c++")
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.warns(RuntimeWarning, match="no such luck") as seen:
        assert [cuda_kernels.available("cpu") for _ in range(3)] == [False] * 3
    assert len(seen) == 1, [str(one.message) for one in seen]
    assert compiled() == 1
    assert "no such luck" in cuda_kernels.status()


@needs_compiler
@pytest.mark.parametrize("refused", [("-march=native",), ("-fopenmp",), ("-march=native", "-fopenmp")])
def test_flags_that_the_compiler_refuses(refused, sources, kernels, tmp_path, monkeypatch, caplog):
    pattern = "|".join(f'*" {flag} "*' for flag in refused)
    body = f'case " $* " in {pattern}) echo "error: bad option" >&2; exit 1;; esac\nexec {COMPILER} "$@"'
    monkeypatch.setenv("CXX", str(script(tmp_path / "c++", body)))
    path = obtain("cpu")
    loaded = ctypes.CDLL(str(path))
    assert loaded.answer() == 42
    assert loaded.threads() == (1 if "-fopenmp" in refused else 2)
    record = store.record_of(path)
    assert record is not None
    assert not set(refused) & set(record.flags)
    assert set(toolchain.OPTIONAL_FLAGS) - set(refused) <= set(record.flags)
    assert f"refuses {' and '.join(refused)}" in caplog.text
    assert obtain("cpu") == path


def test_a_compiler_that_compiles_nothing(sources, kernels, tmp_path, monkeypatch):
    body = 'case "$1" in --version) echo c++ 1.0;; *) echo "error: no headers"; exit 1;; esac'
    monkeypatch.setenv("CXX", str(script(tmp_path / "c++", body)))
    assert "cannot compile an empty file: error: no headers" in problem(obtain, "cpu")


@needs_compiler
def test_no_ninja(sources, kernels, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(toolchain.shutil, "which", lambda name, **_: None if name == "ninja" else COMPILER)
    assert "pip install ninja" in problem(obtain, "cpu")


@needs_compiler
def test_one_openmp_runtime_beside_torch_and_denormals_stay(sources, kernels):
    process = child(
        "import torch, ctypes",
        "torch.set_num_threads(2); torch.randn(600, 600) @ torch.randn(600, 600)",
        "loaded = ctypes.CDLL(str(compiling.obtain('cpu')))",
        "assert loaded.threads() == 2",
        "assert torch.tensor(1e-40) * 1 != 0, 'denormals are flushed'",
        "lines = open('/proc/self/maps').read().splitlines()",
        "print(*sorted({line.split()[-1] for line in lines if 'libgomp' in line or 'libomp' in line}), sep='\\n')",
    )
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert len(output.split("\n")) == 2, output


# nvcc


def test_no_nvcc(sources, kernels, monkeypatch):
    (sources / "answer.cu").write_text("")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "install the CUDA toolkit" in problem(cuda_kernels.build, "90")


def test_no_nvcc_but_a_gpu_runs_on_plain_pytorch(sources, kernels, monkeypatch):
    (sources / "answer.cu").write_text("")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.warns(RuntimeWarning, match="no nvcc") as seen:
        assert chosen("auto", torch.device("cuda")) == "reference"
        assert chosen("auto", torch.device("cuda")) == "reference"
    assert len(seen) == 1, [str(one.message) for one in seen]


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_cuda_home_that_points_nowhere(variable, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, str(tmp_path))
    assert f"{variable} is {tmp_path}" in problem(toolchain.nvcc)


def test_which_nvcc(tmp_path, monkeypatch):
    home, path, root = (fake_nvcc(tmp_path / name) for name in ("home", "path", "root"))
    monkeypatch.setattr(toolchain, "_CUDA_ROOT", str(root))
    monkeypatch.setenv("PATH", "/nowhere")
    assert toolchain.nvcc() == str(root / "bin" / "nvcc")
    monkeypatch.setenv("PATH", str(path / "bin"))
    assert toolchain.nvcc() == str(path / "bin" / "nvcc")
    monkeypatch.setenv("CUDA_HOME", str(home))
    assert toolchain.nvcc() == str(home / "bin" / "nvcc")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("90", (90,)),
        ("sm_90", (90,)),
        ("compute_90", (90,)),
        ("9.0", (90,)),
        ("8.6", (86,)),
        ("120", (120,)),
        ("12.0", (120,)),
        ("90,sm_80, 7.5,90", (75, 80, 90)),
        ("all", KNOWN),
    ],
)
def test_names_of_architectures(name, expected):
    assert toolchain.cuda_architectures(name, KNOWN) == expected


@pytest.mark.parametrize("name", ["", "hopper", "9", "sm_9", "90a", "90,", "-90", "9.0.1", "all,90"])
def test_names_that_are_no_architecture(name):
    assert "is no CUDA architecture" in problem(toolchain.cuda_architectures, name, KNOWN)


@pytest.mark.parametrize("name", ["70", "5.2", "sm_37,90"])
def test_architectures_that_are_too_old(name):
    message = problem(toolchain.cuda_architectures, name, KNOWN)
    assert "only for sm_75, sm_80" in message
    assert "older CUDA toolkit" in message


def test_an_architecture_that_is_too_new():
    assert "only for sm_75" in problem(toolchain.cuda_architectures, "130", KNOWN)


@pytest.mark.parametrize(
    ("present", "expected"),
    [((90,), (90,)), ((75, 90), (75, 90)), ((89,), (86,)), ((130,), (120,)), ((90, 130), (90, 120))],
)
def test_architectures_of_the_gpus(present, expected, monkeypatch):
    monkeypatch.setattr(toolchain, "gpus", gpus(*present))
    assert toolchain.cuda_architectures(None, KNOWN) == expected


def test_a_gpu_that_is_too_old(monkeypatch):
    monkeypatch.setattr(toolchain, "gpus", gpus(70))
    assert "cannot compile for sm_70" in problem(toolchain.cuda_architectures, None, KNOWN)


@pytest.mark.parametrize("present", [lambda: None, gpus()])
def test_no_gpu_and_no_architecture(present, monkeypatch):
    monkeypatch.setattr(toolchain, "gpus", present)
    assert "--arch" in problem(toolchain.cuda_architectures, None, KNOWN)


@needs_compiler
def test_the_driver_is_asked_for_the_gpus(tmp_path, monkeypatch):
    assert toolchain.gpus() is None
    (tmp_path / "driver.cpp").write_text(
        """extern "C" {
        int failure = 0;
        int cuInit(unsigned) { return failure; }
        int cuDriverGetVersion(int* version) { *version = 12040; return 0; }
        int cuDeviceGetCount(int* count) { *count = 3; return 0; }
        int cuDeviceGetAttribute(int* value, int attribute, int device) {
            static const int major[] = {9, 7, 9}, minor[] = {0, 5, 0};
            *value = attribute == 75 ? major[device] : attribute == 76 ? minor[device] : -1;
            return 0;
        }
        }"""
    )
    library = tmp_path / "libcuda.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", tmp_path / "driver.cpp", "-o", library], check=True)
    monkeypatch.setattr(toolchain, "_DRIVER", str(library))
    toolchain.gpus.cache_clear()
    assert toolchain.gpus() == toolchain.Gpus((12, 4), (75, 90))
    ctypes.c_int.in_dll(ctypes.CDLL(str(library)), "failure").value = 100
    toolchain.gpus.cache_clear()
    assert toolchain.gpus() is None


@needs_compiler
def test_flags_of_nvcc(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(fake_nvcc(tmp_path)))
    recipe = toolchain.recipe("cuda", "80,90")
    code = [flag for flag in recipe.flags if "gencode" in flag]
    assert code == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]
    assert recipe.targets == ("80", "90")
    assert recipe.flags[:2] == ("-ccbin", COMPILER)
    compiler = script(tmp_path / "other", f'exec {COMPILER} "$@"')
    monkeypatch.setenv("NVCC_CCBIN", str(compiler))
    assert toolchain.recipe("cuda", "90").flags[:2] == ("-ccbin", str(compiler))


@needs_compiler
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('echo "host_config.h:150:2: error: #error -- unsupported GNU version! gcc later than 15"; exit 1', "set CXX"),
        ('echo "answer.cu(3): error: identifier \\"x\\" is undefined"; exit 2', "answer.cu(3): error: identifier"),
        ('echo "ptxas fatal   : Unresolved extern function"; exit 255', "ptxas fatal"),
        ('echo "nvcc fatal   : Could not open output file"; exit 1', "nvcc fatal"),
        ("exit 1", "failed"),
    ],
)
def test_errors_of_nvcc(body, expected, sources, kernels, tmp_path, monkeypatch):
    (sources / "answer.cu").write_text("")
    monkeypatch.setenv("CUDA_HOME", str(fake_nvcc(tmp_path / "cuda", body)))
    message = problem(cuda_kernels.build, "90")
    assert expected in message
    assert Path(message.split("Log: ")[1]).is_file()


def test_an_nvcc_that_knows_nothing(tmp_path, monkeypatch):
    script(tmp_path / "bin" / "nvcc", 'echo "something else"')
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert "names no version" in problem(toolchain.nvcc_version, toolchain.nvcc())
    assert "newer CUDA toolkit" in problem(toolchain.nvcc_architectures, toolchain.nvcc())


def keep_cuda(kernels: Path, sources: Path, *targets: str) -> Path:
    """Pretend that a CUDA library for ``targets`` was built ahead."""
    kernels.mkdir(parents=True, exist_ok=True)
    made = kernels / "made.so"
    made.write_bytes(b"library")
    target = kernels / f"cuda-{'-'.join(targets)}.so"
    recipe = toolchain.Recipe("cuda", ("nvcc",), "", "nvcc (CUDA 13.0.88)", (), (), targets)
    store.keep(made, target, recipe, store.read_sources("cuda", sources), 1.0)
    return target


@needs_compiler
def test_built_ahead_for_more_gpus(sources, kernels, tmp_path, monkeypatch):
    (sources / "answer.cu").write_text("")
    path = keep_cuda(kernels, sources, "80", "90")
    for module in (toolchain, store):
        monkeypatch.setattr(module, "gpus", gpus(90))
    monkeypatch.setenv("PATH", "/nowhere")
    assert cuda_kernels.build() == path
    for module in (toolchain, store):
        monkeypatch.setattr(module, "gpus", gpus(120))
    assert cuda_kernels.build() == path  # by the PTX of sm_90, for want of a compiler
    assert "no nvcc" in problem(cuda_kernels.build, "90")
    monkeypatch.setenv("PATH", str(Path(COMPILER).parent))
    monkeypatch.setenv("CUDA_HOME", str(fake_nvcc(tmp_path / "cuda")))
    assert "failed" in problem(cuda_kernels.build)  # with a compiler, newer GPUs get code of their own
    for module in (toolchain, store):
        monkeypatch.setattr(module, "gpus", gpus(75, 90))
    assert "failed" in problem(cuda_kernels.build)
    for module in (toolchain, store):
        monkeypatch.setattr(module, "gpus", gpus(80))
    assert cuda_kernels.build() == path
    (sources / "answer.cu").write_text("// changed")
    assert "failed" in problem(cuda_kernels.build)


def test_a_driver_that_is_too_old(sources, kernels, monkeypatch):
    (sources / "answer.cu").write_text("")
    keep_cuda(kernels, sources, "90")
    for module in (toolchain, store, load):
        monkeypatch.setattr(module, "gpus", gpus(90, driver=(12, 8)))
    monkeypatch.setenv("PATH", "/nowhere")
    message = problem(cuda_kernels.library, "cuda")
    assert "supports CUDA 12.8, nvcc is CUDA 13" in message


# What users see


@needs_compiler
def test_status_compiles_nothing(sources, kernels):
    assert "not compiled yet" in cuda_kernels.status()
    assert not kernels.exists()
    path = obtain("cpu")
    assert f"ready, {path}" in cuda_kernels.status()
    cuda_kernels.library("cpu")
    assert f"loaded, {path}" in cuda_kernels.status()
    assert [line.split(":")[0] for line in cuda_kernels.status().splitlines()] == ["cpu", "cuda"]


@needs_compiler
def test_commands(sources, kernels):
    result = CliRunner().invoke(main, ["kernels", "build"])
    assert result.exit_code == 0, result.output
    path = obtain("cpu")
    assert result.stdout.startswith(f"cpu: {path} (")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("compiling the cpu kernels with ")
    again = CliRunner().invoke(main, ["kernels", "build", "--cpu"])
    assert again.stdout.startswith(f"cpu: {path} (")
    assert again.stderr == ""
    forced = CliRunner().invoke(main, ["kernels", "build", "--force"])
    assert forced.stderr.startswith("compiling")
    assert str(path) in CliRunner().invoke(main, ["kernels", "status"]).stdout


def test_commands_misused(sources, kernels, monkeypatch):
    (sources / "answer.cu").write_text("")
    assert CliRunner().invoke(main, ["kernels", "build", "--cpu", "--arch", "90"]).exit_code == 2
    monkeypatch.setenv("PATH", "/nowhere")
    for arguments in (["--arch", "90"], ["--cuda"], ["--cpu"]):
        result = CliRunner().invoke(main, ["kernels", "build", *arguments])
        assert result.exit_code == 1
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1


@needs_compiler
def test_doctor_tells_of_kernels(sources, kernels, monkeypatch):
    def rows() -> dict[str, dict[str, object]]:
        found = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
        return {row["name"]: row for row in found}

    assert rows()["cpu kernels"]["ok"]
    assert not rows()["cuda kernels"]["ok"]
    assert rows()["backend"]["seen"] == "auto"
    monkeypatch.setenv("FACELATENT_BACKEND", "reference")
    assert rows()["backend"]["seen"] == "reference"
    monkeypatch.setenv("FACELATENT_BACKEND", "fast")
    assert not rows()["backend"]["ok"]
    assert not kernels.exists()


def test_importing_everything_starts_no_compiler(kernels, tmp_path):
    """In a process of its own, where compilers are traps and every start of a program is noticed."""
    trap = tmp_path / "sprung"
    for name in ("c++", "g++", "gcc", "cc", "clang++", "nvcc", "ninja", "nvidia-smi"):
        script(tmp_path / "bin" / name, f'echo "$0" >> "{trap}"; exit 1')
    code = """
import importlib, pkgutil, sys
started = []
sys.addaudithook(lambda name, args: started.append(args) if name in ("subprocess.Popen", "os.posix_spawn") else None)
import facelatent
for module in pkgutil.walk_packages(facelatent.__path__, "facelatent."):
    importlib.import_module(module.name)
mine = [args for args in started if any(word in str(args) for word in ("c++", "g++", "nvcc", "ninja"))]
assert not mine, mine
from facelatent.cuda_kernels import load
assert not load._outcomes
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": str(tmp_path / "bin")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not trap.exists(), trap.read_text()
    assert not kernels.exists()


def test_this_package_does_without_torch():
    code = "import sys, facelatent.cuda_kernels, facelatent.commands.kernels; assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_packages_hold_the_sources(tmp_path):
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("no setuptools")
    project = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(REPOSITORY / "facelatent", project / "facelatent", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, project)
    folder = project / "facelatent" / "cuda_kernels" / "sources"
    folder.mkdir(exist_ok=True)
    for name in ("cpu_some.cpp", "some.cu", "some.h"):
        (folder / name).write_text("// some\n")
    wanted = {f"facelatent/cuda_kernels/sources/{path.name}" for path in folder.iterdir()}
    code = "from setuptools.build_meta import *; print(build_wheel('out'), build_sdist('out'), sep='\\n', end='')"
    (project / "out").mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wheel, sdist = (project / "out" / name for name in done.stdout.splitlines()[-2:])
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        assert wanted <= {name.partition("/")[2] for name in archive.getnames()}
