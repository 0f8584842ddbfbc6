"""Read the constants of an OpenVINO IR (version 10) network without OpenVINO.

An IR is a pair of files: ``.xml`` holds the graph (layers, and edges between their ports), ``.bin`` the constants.
Only what weight conversion needs is here: constants by layer, and who feeds whom.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from facelatent.errors import UnsupportedCheckpoint

_MAX_XML_BYTES = 16 << 20
_DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "i64": np.dtype("<i8"),
    "i32": np.dtype("<i4"),
}


class OpenVinoIR:
    """The graph of one IR file pair.

    Attributes:
        types: operation of each layer id, in file order (``Convolution``, ``Add``, ``Const`` ...).
        names: name of each layer id.
        inputs: layer ids that feed each layer id, in port order.

    Raises:
        UnsupportedCheckpoint: the files are not a well-formed IR pair.
    """

    def __init__(self, xml: Path, binary: Path) -> None:
        text = xml.read_bytes()
        if len(text) > _MAX_XML_BYTES or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise UnsupportedCheckpoint(f"{xml} is not an OpenVINO IR: too large, or it declares entities")
        self._source = xml
        try:
            self._binary = np.memmap(binary, np.uint8, "r")
            self._read(ElementTree.fromstring(text))
        except (ElementTree.ParseError, KeyError, ValueError, OSError) as error:
            raise UnsupportedCheckpoint(f"{xml} is not an OpenVINO IR ({error!r})") from error

    def _read(self, root: ElementTree.Element) -> None:
        self.types: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self._data: dict[str, dict[str, str]] = {}
        for layer in root.iterfind("layers/layer"):
            key = layer.attrib["id"]
            self.types[key] = layer.attrib["type"]
            self.names[key] = layer.attrib["name"]
            data = layer.find("data")
            self._data[key] = dict(data.attrib) if data is not None else {}
        ports: dict[str, list[tuple[int, str]]] = {}
        for edge in root.iterfind("edges/edge"):
            ports.setdefault(edge.attrib["to-layer"], []).append(
                (int(edge.attrib["to-port"]), edge.attrib["from-layer"])
            )
        self.inputs = {key: [source for _, source in sorted(values)] for key, values in ports.items()}
        self._consumers: dict[str, list[str]] = {}
        for key, sources in self.inputs.items():
            for source in sources:
                self._consumers.setdefault(source, []).append(key)

    def constant(self, key: str) -> np.ndarray:
        """The value of a ``Const`` layer, with the shape that the IR states."""
        data = self._data[key]
        try:
            offset, size = int(data["offset"]), int(data["size"])
            if self.types[key] != "Const" or offset < 0 or offset + size > len(self._binary):
                raise ValueError("outside of the file")
            shape = [int(side) for side in data["shape"].split(",") if side.strip()]
            value = np.frombuffer(self._binary[offset : offset + size].tobytes(), _DTYPES[data["element_type"]])
            array: np.ndarray = value.reshape(shape)
        except (KeyError, ValueError) as error:
            raise UnsupportedCheckpoint(
                f"{self._source}: layer {self.names[key]!r} is not a constant inside the .bin file ({error})"
            ) from error
        return array

    def constants(self, prefix: str = "") -> dict[str, np.ndarray]:
        """All constants whose layer name starts with ``prefix``, by layer name."""
        found = (key for key, kind in self.types.items() if kind == "Const" and self.names[key].startswith(prefix))
        return {self.names[key]: self.constant(key) for key in found}

    def constant_input(self, key: str) -> np.ndarray | None:
        """The constant that feeds a layer directly or through a Reshape; None if all inputs are computed."""
        for source in self.inputs.get(key, []):
            if self.types[source] == "Reshape":
                source = self.inputs[source][0]
            if self.types[source] == "Const":
                return self.constant(source)
        return None

    def next_layer(self, key: str, kind: str) -> str:
        """The first layer of type ``kind`` downstream of ``key`` along single-consumer edges (shape queries aside)."""
        while True:
            consumers = [other for other in self._consumers.get(key, []) if self.types[other] != "ShapeOf"]
            if len(consumers) != 1:
                raise UnsupportedCheckpoint(f"{self._source}: no {kind} follows layer {self.names[key]!r}")
            key = consumers[0]
            if self.types[key] == kind:
                return key
