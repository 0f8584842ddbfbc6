"""Any face classifier in an ONNX file as a scorer, with a spec that says how it is fed and what it gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from facelatent.boundaries.scorers.crops import Crop, crop
from facelatent.boundaries.scorers.interface import FaceScorer, file_version
from facelatent.errors import InvalidFile, ScorerUnavailable
from facelatent.faces import Face

Activation = Literal["none", "softmax", "sigmoid"]


@dataclass(frozen=True)
class OnnxSpec:
    """How a classifier is fed, and what its outputs mean; a JSON object with these keys.

    Attributes:
        attributes: attribute -> number of the output that measures it, or one weight for each output: the sum of
            weighted outputs, such as an expected age of the probabilities of ages.
        size: side of the input in pixels, or its height and width.
        crop: what it sees: ``aligned``, ``chip`` or ``whole``.
        padding: of ``chip``.
        range: what black and white become, before ``mean`` and ``std``.
        mean: subtracted, one for each channel.
        std: divided by, likewise.
        channels: ``rgb``, ``bgr`` or ``grey``.
        layout: of the input: ``nchw`` or ``nhwc``.
        output: name of the output that is read; the first if empty.
        activation: what is applied to all outputs of a face before they are read.
        units: of attributes, for listings.
        source: where the weights come from and what their licence allows, for listings.
    """

    attributes: Mapping[str, int | list[float]]
    size: int | list[int]
    crop: Crop = "aligned"
    padding: float = 0.25
    range: list[float] = field(default_factory=lambda: [0.0, 1.0])
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    output: str = ""
    activation: Activation = "none"
    units: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def load(cls, path: str | Path) -> OnnxSpec:
        """Read and check a spec.

        Raises:
            InvalidFile: the file is missing, is no JSON object, or a value is not what it should be.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InvalidFile(f"{path} does not exist: an ONNX classifier needs a spec: docs/scorers.md") from error
        except (OSError, ValueError) as error:
            raise InvalidFile(f"{path} is not a JSON file ({error})") from error
        if not isinstance(record, dict):
            raise InvalidFile(f"{path} holds {type(record).__name__}; a spec is a JSON object")
        known = {one.name for one in fields(cls)}
        if unknown := sorted(record.keys() - known):
            raise InvalidFile(f"{path}: unknown {unknown[0]!r}; known: {', '.join(sorted(known))}")
        if missing := sorted({"attributes", "size"} - record.keys()):
            raise InvalidFile(f"{path}: {missing[0]!r} is missing")
        spec = cls(**record)
        if wrong := spec.wrong():
            raise InvalidFile(f"{path}: {wrong}")
        return spec

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return height, width

    def wrong(self) -> str:
        """What is wrong with the values; empty if nothing is."""
        depth = 1 if self.channels == "grey" else 3
        checks = {
            "attributes": isinstance(self.attributes, dict)
            and bool(self.attributes)
            and all(isinstance(name, str) and _is_reading(value) for name, value in self.attributes.items()),
            "size": all(_is_whole(side) and 8 <= side <= 2048 for side in _listed(self.size))
            and len(_listed(self.size)) in (1, 2),
            "padding": _is_number(self.padding) and 0 <= self.padding <= 4,
            "range": _numbers(self.range, 2),
            "mean": _numbers(self.mean, 1) or _numbers(self.mean, depth),
            "std": (_numbers(self.std, 1) or _numbers(self.std, depth)) and all(self.std),
            "output": isinstance(self.output, str),
            "units": isinstance(self.units, dict),
            "source": isinstance(self.source, str),
        }
        wanted = {
            "attributes": 'an object such as {"glasses": 1}: numbers of outputs, or a weight for each',
            "size": "a side of 8 to 2048 px, or [height, width]",
            "padding": "a number from 0 to 4",
            "range": "two numbers, such as [0, 1]",
            "mean": f"a list of one number or of {depth}",
            "std": f"a list of one number or of {depth}, none of them 0",
            "output": "the name of an output",
            "units": 'an object such as {"glasses": "probability"}',
            "source": "a line of text",
        }
        for name, right in checks.items():
            if not right:
                return f"{name!r} is {getattr(self, name)!r}; it must be {wanted[name]}"
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                return f"{name!r} is {getattr(self, name)!r}; it must be one of {', '.join(choices)}"
        return ""


class OnnxScorer(FaceScorer):
    """A classifier in an ONNX file. ONNX is data: nothing in it is run but the operators of onnxruntime.

    Args:
        path: the network.
        spec: how it is fed and read.
        name: what it is called.
        version: of the network and its spec.

    Raises:
        ScorerUnavailable: onnxruntime cannot load the file, or the spec does not fit it.
    """

    def __init__(self, path: str | Path, spec: OnnxSpec, name: str = "onnx", version: str = "1") -> None:
        self.name, self.version, self.spec = name, version, spec
        self.attributes = tuple(spec.attributes)
        self.units, self.source = spec.units, spec.source
        self._path = str(path)
        self._session = _open(self._path)
        outputs = [output.name for output in self._session.get_outputs()]
        if len(inputs := self._session.get_inputs()) != 1:
            raise ScorerUnavailable(f"{path} takes {len(inputs)} inputs; a scorer's network takes pictures alone")
        if spec.output and spec.output not in outputs:
            raise ScorerUnavailable(f"{path} has no output {spec.output!r}; it has {', '.join(outputs)}")
        self._input, self._output = inputs[0], spec.output or outputs[0]
        if self._input.type not in ("tensor(float)", "tensor(uint8)"):
            raise ScorerUnavailable(f"{path} takes {self._input.type}; float32 or uint8 pictures can be given")
        self._run(np.zeros((1, *spec.shape, 3), np.uint8))  # a spec that does not fit fails now, not after an hour

    @classmethod
    def from_files(cls, path: str | Path, spec: str | Path | None = None) -> OnnxScorer:
        """A scorer of an ONNX file and its JSON spec, by default the file of that name with the ending .json.

        Raises:
            InvalidFile: the spec is missing or wrong.
            ScorerUnavailable: the network is missing, cannot be loaded, or is not what the spec says.
        """
        network = Path(path)
        described = Path(spec) if spec else network.with_suffix(".json")
        if not network.is_file():
            raise ScorerUnavailable(f"{network} does not exist or is not a file")
        loaded = OnnxSpec.load(described)
        return cls(network, loaded, network.stem, file_version(network, described))

    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """See :class:`FaceScorer`."""
        spec = self.spec
        crops = [
            crop(pixels, face, spec.crop, spec.shape, spec.padding)
            for pixels, face in zip(pictures, faces, strict=True)
        ]
        return self._run(np.stack(crops))

    def _run(self, crops: np.ndarray) -> np.ndarray:
        """Values [n, len(attributes)] of uint8 crops [n, h, w, 3]."""
        values = _activated(self._outputs(_fed(crops, self.spec)), self.spec.activation)
        columns = []
        for attribute, reading in self.spec.attributes.items():
            count = len(reading) if isinstance(reading, list) else reading + 1
            if count > values.shape[1] or (isinstance(reading, list) and count < values.shape[1]):
                raise ScorerUnavailable(
                    f"{self._path} gives {values.shape[1]} values a face; its spec reads {attribute!r} from {count}"
                )
            columns.append(values @ np.array(reading) if isinstance(reading, list) else values[:, reading])
        return np.stack(columns, 1)

    def _outputs(self, inputs: np.ndarray) -> np.ndarray:
        """The output [n, classes] for inputs [n, ...]; files that name a batch of one get their pictures singly."""
        given = inputs.astype(np.uint8) if self._input.type == "tensor(uint8)" else inputs
        fixed = isinstance(self._input.shape[0], int) if self._input.shape else False
        try:
            parts = [
                self._session.run([self._output], {self._input.name: part})[0]
                for part in (np.split(given, len(given)) if fixed else [given])
            ]
        except Exception as error:  # onnxruntime has errors of its own
            raise ScorerUnavailable(
                f"{self._path} takes {self._input.shape}; its spec gives it {list(given.shape)} ({_first_line(error)})"
            ) from error
        values = np.concatenate(parts).astype(np.float64)
        return values.reshape(len(inputs), -1)


def _open(path: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ScorerUnavailable(f"onnxruntime cannot load {path}: {_first_line(error)}") from error


def _fed(crops: np.ndarray, spec: OnnxSpec) -> np.ndarray:
    """uint8 RGB crops [n, h, w, 3] as the network takes them, float32."""
    values: np.ndarray = crops.astype(np.float32)
    if spec.channels == "grey":
        values = values @ np.array([[0.299], [0.587], [0.114]], np.float32)  # ITU-R BT.601, as Pillow and OpenCV do
    elif spec.channels == "bgr":
        values = values[..., ::-1]
    black, white = spec.range
    values = values * ((white - black) / 255) + black
    values = (values - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if spec.layout == "nchw" else values, np.float32)


def _activated(values: np.ndarray, activation: Activation) -> np.ndarray:
    if activation == "softmax":
        powers = np.exp(values - values.max(1, keepdims=True))
        shares: np.ndarray = powers / powers.sum(1, keepdims=True)
        return shares
    if activation == "sigmoid":
        odds: np.ndarray = 1 / (1 + np.exp(-np.clip(values, -700, 700)))
        return odds
    return values


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(_is_number(one) for one in value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_reading(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_number(one) for one in value)
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_CHOICES: dict[str, tuple[str, ...]] = {
    "crop": get_args(Crop),
    "channels": ("rgb", "bgr", "grey"),
    "layout": ("nchw", "nhwc"),
    "activation": get_args(Activation),
}
