"""Read an encoder from the files that pSp and e4e publish (``psp_ffhq_encode.pt``, ``e4e_ffhq_encode.pt``), or ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from facelatent.errors import FacelatentError, UnsupportedCheckpoint
from facelatent.inversion.encoders.bundle import FORMAT, EncoderBundle, EncoderKind
from facelatent.inversion.encoders.compact import CompactEncoder
from facelatent.inversion.encoders.heads import WIDTH, E4eEncoder, PspEncoder, WEncoder, WPlusEncoder
from facelatent.inversion.encoders.home import Home
from facelatent.inversion.encoders.weights import Tensors, load_network, tensors_of
from facelatent.memory import keep_freed_memory
from facelatent.stylegan_ops.checkpoints import Contents, build_generator, read_contents
from facelatent.stylegan_ops.checkpoints.allowed import Stored
from facelatent.stylegan_ops.checkpoints.checkpoint import checkpoint_in
from facelatent.stylegan_ops.checkpoints.containers import named_errors
from facelatent.stylegan_ops.checkpoints.unpickle import Record

#: What the options of a training run call each kind (``encoder_type``).
_TYPES: dict[str, EncoderKind] = {
    "GradualStyleEncoder": "psp",
    "Encoder4Editing": "e4e",
    "BackboneEncoderUsingLastLayerIntoW": "w",
    "SingleStyleCodeEncoder": "w",
    "BackboneEncoderUsingLastLayerIntoWPlus": "wplus",
}
_MAX_WS = 64
_MAX_LOOKS = 100


def load_encoder(
    path: str | Path, device: str | torch.device | None = None, kind: EncoderKind | None = None
) -> EncoderBundle | CompactEncoder:
    """Read a pSp or e4e file, or one that facelatent wrote. No code of the file is run.

    Args:
        path: ``psp_ffhq_encode.pt``, ``e4e_ffhq_encode.pt`` and their like, or safetensors; the name plays no part.
        device: where to put it, and a bundle's generator; a GPU if there is one, else the CPU.
        kind: ``psp``, ``e4e``, ``w`` or ``wplus``, for a file whose options do not tell; the tensors cannot.

    Raises:
        UnsafeCheckpoint: reading it would mean running code.
        UnsupportedCheckpoint: it holds no encoder that is known, or is damaged; the message says what was seen.
        FacelatentError: the device cannot be used.
        ValueError: an unknown kind.
    """
    if kind is not None and kind not in get_args(EncoderKind):
        raise ValueError(f"unknown kind of encoder {kind!r}; known: {', '.join(get_args(EncoderKind))}")
    contents = read_contents(path)
    with named_errors(str(path)):
        read = _read_ours if contents.container == "safetensors" else _read_public
        bundle = read(contents, Path(path), kind)
    try:
        bundle = bundle.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FacelatentError(f"the device {str(device)!r} cannot be used ({reason}); try cpu or cuda") from error
    if next(bundle.parameters()).device.type == "cpu":
        keep_freed_memory()
    # What the CPU's convolution library works in: a seventh faster.
    return bundle.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


@cache
def shipped_encoder(generator: str) -> CompactEncoder | None:
    """The encoder that comes with facelatent for the generator of that name, read once; None if there is none."""
    path = resources.files("facelatent.inversion.encoders") / "library" / f"{generator}.encoder.safetensors"
    if not path.is_file():
        return None
    encoder = load_encoder(Path(str(path)), "cpu")
    assert isinstance(encoder, CompactEncoder)
    return encoder


def encoder_kind(opts: Mapping[str, Any]) -> EncoderKind | None:
    """Which encoder the options of a training run name; None if they name none that is known.

    pSp's and e4e's tensors are alike, so only the options tell: by ``encoder_type``, or else by what each calls the
    side of its pictures.
    """
    if (named := opts.get("encoder_type")) is not None:
        return _TYPES.get(named) if isinstance(named, str) else None
    if "stylegan_size" in opts:
        return "e4e"
    return "psp" if "output_size" in opts else None


def _read_public(contents: Contents, path: Path, kind: EncoderKind | None) -> EncoderBundle:
    """``{'state_dict': encoder.* and decoder.*, 'opts', 'latent_avg'}``."""
    value = contents.value if isinstance(contents.value, Mapping) else {}
    tensors = tensors_of(value.get("state_dict"), "encoder.")
    if not tensors:
        raise UnsupportedCheckpoint("no encoder in it (no tensors named encoder. under state_dict)")
    stored = value.get("opts")
    opts = stored.state if isinstance(stored, Record) else stored
    opts = opts if isinstance(opts, Mapping) else {}
    chosen = kind or _kind_of(opts)
    _check_input(tensors)
    generator = build_generator(checkpoint_in(contents, path.stat().st_size), path.stem)
    num_ws = generator.num_ws
    network = load_network(_maker(chosen, num_ws), tensors, "its encoder")
    average = _average(value.get("latent_avg"), bool(opts.get("start_from_latent_avg", True)), num_ws)
    generator.requires_grad_(False)
    return EncoderBundle(path.stem, chosen, network, average, num_ws, Home.of(generator), generator)


def _kind_of(opts: Mapping[str, Any]) -> EncoderKind:
    found = encoder_kind(opts)
    if found is None:
        seen = opts.get("encoder_type")
        said = f"encoder_type {str(seen)[:60]!r}" if seen is not None else "no options that tell pSp from e4e"
        raise UnsupportedCheckpoint(f"it has {said}; say which it is: one of {', '.join(get_args(EncoderKind))}")
    return found


def _check_input(tensors: Tensors) -> None:
    """Refuse encoders of segmentation maps or sketches, and ReStyle's, which also see the picture drawn so far."""
    first = tensors.get("input_layer.0.weight")
    if first is not None and len(first.shape) == 4 and first.shape[1] != 3:
        what = "a ReStyle encoder" if first.shape[1] == 6 else "not an encoder of photos"
        raise UnsupportedCheckpoint(f"its encoder takes {first.shape[1]} channels: {what}; only RGB ones are used")


def _maker(kind: EncoderKind, num_ws: int) -> Callable[[], nn.Module]:
    if kind == "w":
        return WEncoder
    classes = {"psp": PspEncoder, "e4e": E4eEncoder, "wplus": WPlusEncoder}
    return lambda: classes[kind](num_ws)


def _average(stored: Any, added: bool, num_ws: int) -> Tensor:
    """latent_avg [1 or num_ws, 512]; zeros for an encoder that was trained without."""
    if not added:
        return torch.zeros(1, WIDTH)
    if stored is None:
        raise UnsupportedCheckpoint("it has no latent_avg, the mean w, which its codes are relative to")
    value = stored.load() if isinstance(stored, Stored) else stored
    if not isinstance(value, Tensor) or tuple(value.shape) not in ((WIDTH,), (1, WIDTH), (num_ws, WIDTH)):
        shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UnsupportedCheckpoint(f"its latent_avg has shape {shape}, expected [{num_ws}, {WIDTH}]")
    return value.float().reshape(-1, WIDTH)


def _read_ours(contents: Contents, path: Path, kind: EncoderKind | None) -> EncoderBundle | CompactEncoder:
    try:
        metadata = {key: json.loads(text) for key, text in contents.metadata.items()}
    except ValueError:
        metadata = {}
    if metadata.get("kind") != "encoder":
        raise UnsupportedCheckpoint(f"a safetensors file, but not an encoder (kind {str(metadata.get('kind'))[:40]!r})")
    if metadata.get("format") != FORMAT:
        raise UnsupportedCheckpoint(f"encoder format {metadata.get('format')!r}; this facelatent reads {FORMAT}")
    num_ws, home = _described_home(metadata)
    name = str(metadata.get("name", path.stem))
    if metadata.get("encoder") == "compact":
        return _compact(tensors_of(contents.value), name, home)
    chosen = kind or _known(metadata.get("encoder"))
    network = load_network(_maker(chosen, num_ws), tensors_of(contents.value, "encoder."), "its encoder")
    average = _average(contents.value.get("latent_avg"), True, num_ws)
    return EncoderBundle(name, chosen, network, average, num_ws, home)


def _compact(tensors: Tensors, name: str, home: Home) -> CompactEncoder:
    shapes = {key: tuple(tensors[key].shape) for key in ("basis", "map.0.weight", "lengths") if key in tensors}
    if [len(shape) for shape in shapes.values()] != [2, 2, 1] or shapes["lengths"][0] > _MAX_LOOKS:
        raise UnsupportedCheckpoint("it does not hold a compact encoder's map, basis and lengths")
    (components, width), (rank, _), (looks,) = shapes.values()

    def make() -> CompactEncoder:
        return CompactEncoder(name, home, torch.zeros(width), torch.zeros(components, width), rank, looks)

    return load_network(make, tensors, "its encoder")


def _described_home(metadata: dict[str, Any]) -> tuple[int, Home]:
    """The number of codes and the generator that our metadata tells of."""
    texts = [text for key in ("generator", "fingerprint", "w_space") if isinstance(text := metadata.get(key), str)]
    listed = metadata.get("layer_resolutions")
    sides = [side for side in listed if type(side) is int] if isinstance(listed, list) else []
    if len(texts) != 3 or not 1 <= len(sides) <= _MAX_WS or sides != listed:
        raise UnsupportedCheckpoint("it does not say which generator its codes are for")
    return len(sides), Home(texts[0], texts[1], texts[2], tuple(sides))


def _known(kind: Any) -> EncoderKind:
    for known in get_args(EncoderKind):
        if kind == known:
            return cast(EncoderKind, known)
    raise UnsupportedCheckpoint(f"an unknown kind of encoder {str(kind)[:40]!r}")
