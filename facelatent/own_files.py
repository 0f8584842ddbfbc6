"""What facelatent's own files are: scored codes are told by their arrays, all others say so in their metadata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from facelatent.boundaries import Boundary
from facelatent.boundaries.codes import FACTS, read_shard
from facelatent.boundaries.scorers.celeba import AttributeClassifier
from facelatent.domain_adapt import Style
from facelatent.errors import InvalidFile
from facelatent.files import load_metadata
from facelatent.inversion import load_encoder
from facelatent.latent import Latent


def describe_file(path: str | Path) -> dict[str, Any] | None:
    """What one of our files is, by words for people; None for any other file, a generator of ours among them.

    Raises:
        InvalidFile, UnsupportedCheckpoint: it is one of ours, and damaged or of a later version.
    """
    if Path(path).suffix.lower() == ".npz":
        return _codes(Path(path))
    try:
        metadata = load_metadata(path)
    except InvalidFile:
        return None
    describe = _DESCRIBERS.get(str(metadata.get("kind")))
    return None if describe is None else {"kind": metadata["kind"], **describe(path, metadata)}


def _codes(path: Path) -> dict[str, Any] | None:
    try:
        shard = read_shard(path)
    except InvalidFile:
        return None
    codes = "one w a face" if shard["w"].ndim == 2 else f"{shard['w'].shape[1]} w a face, for groups of layers"
    scores = {name: values[np.isfinite(values)] for name, values in shard.items() if name not in FACTS}
    ranges = [f"{name} {values.min():.3g} to {values.max():.3g}" for name, values in scores.items() if values.size]
    found = {"faces": len(shard["w"]), "codes": codes, "scores": ", ".join(ranges) or "none"}
    return {"kind": "scored codes", **found, **({"scorers": str(shard["scorers"])} if "scorers" in shard else {})}


def _style(path: str | Path, metadata: dict[str, Any]) -> dict[str, Any]:
    style = Style.load(path)
    ranks = sorted(style.ranks.values())
    return {
        "name": style.name,
        **_home(metadata),
        "weights": f"{len(style.names())}, {style.bytes / 1e6:.2f} MB in float16",
        "low rank": f"{len(ranks)} of them, {ranks[0]} to {ranks[-1]}" if ranks else "none",
        "report": style.report,
    }


def _encoder(path: str | Path, metadata: dict[str, Any]) -> dict[str, Any]:
    encoder = load_encoder(path, "cpu")
    return {
        "name": encoder.name,
        "encoder": str(metadata["encoder"]),
        **_home(metadata),
        "layers": f"{encoder.num_ws} in W+",
        "input": f"{encoder.input_side} px",
        "parameters": sum(value.numel() for value in encoder.state_dict().values()),
    }


def _latent(path: str | Path, metadata: dict[str, Any]) -> dict[str, Any]:
    latent = Latent.load(path)
    tuning = "none" if latent.delta is None else f"{latent.delta.bytes / 1e6:.2f} MB"
    faces, layers, _ = latent.ws.shape
    found = {"faces": faces, "layers": f"{layers} in W+", "tuning": tuning}
    return {**_home(metadata), **found, "method": latent.method, "metrics": latent.metrics}


def _boundary(path: str | Path, metadata: dict[str, Any]) -> dict[str, Any]:
    boundary = Boundary.load(path)
    return {
        "attribute": boundary.attribute,
        **_home(metadata),
        "resolutions": boundary.resolutions or "all",
        "styles": len(boundary.styles),
        "report": boundary.report,
    }


def _classifier(path: str | Path, metadata: dict[str, Any]) -> dict[str, Any]:
    classifier = AttributeClassifier.load(path)
    return {
        "attributes": ", ".join(classifier.attributes),
        "input": f"{classifier.side} px",
        "parameters": sum(value.numel() for value in classifier.network.parameters()),
        "report": classifier.report,
    }


def _home(metadata: dict[str, Any]) -> dict[str, str]:
    """The generator that a file belongs to."""
    return {key: str(metadata.get(key) or "unknown") for key in ("generator", "fingerprint")}


_DESCRIBERS: dict[str, Callable[[str | Path, dict[str, Any]], dict[str, Any]]] = {
    "style": _style,
    "encoder": _encoder,
    "latent": _latent,
    "boundary": _boundary,
    "attribute-classifier": _classifier,
}
