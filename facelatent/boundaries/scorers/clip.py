"""Zero-shot scores by CLIP: how much nearer a picture is to one line of text than to another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facelatent.boundaries.scorers.crops import crop
from facelatent.boundaries.scorers.interface import FaceScorer, file_version
from facelatent.errors import InvalidFile, ScorerUnavailable, UnsupportedCheckpoint
from facelatent.faces import Face
from facelatent.files import load_tensors

#: CLIP's own normalisation (Radford et al., "Learning Transferable Visual Models ...", 2021, code).
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_INSTALL = "pip install 'facelatent[clip]'"
#: Declarations last as long as these objects.
_DECLARED: list[torch.library.Library] = []


class ClipScorer(FaceScorer):
    """Differences of cosine similarities, times 100, between a picture and two lines of text.

    Args:
        weights: of an open_clip network: a state dict as safetensors, or as .pt or .bin, whose code is not run.
        prompts: attribute -> the line that describes more of it, and the line that describes less.
        model: open_clip's name of the architecture.
        device: where to compute.

    Raises:
        ScorerUnavailable: open_clip is not installed, or does not know the architecture.
        UnsupportedCheckpoint: the file holds other weights.
    """

    def __init__(
        self,
        weights: str | Path,
        prompts: Mapping[str, tuple[str, str]],
        model: str = "ViT-B-32",
        device: str | torch.device = "cpu",
    ) -> None:
        if not prompts:
            raise ValueError("CLIP scores pairs of prompts; none is given")
        self.name, self.attributes = f"clip-{model}", tuple(prompts)
        self.units = {name: f"'{more}' over '{less}', cosine x 100" for name, (more, less) in prompts.items()}
        self.source = f"{Path(weights).name}, open_clip {model}"
        self._device = torch.device(device)
        self._network = clip_network(Path(weights), model).eval().requires_grad_(False).to(self._device)
        tokenizer = import_open_clip().get_tokenizer(model)
        self.version = f"{file_version(weights)} {sorted(prompts.items())}"
        size = self._network.visual.image_size
        self._shape: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        with torch.no_grad():
            texts = [line for pair in prompts.values() for line in pair]
            found = self._network.encode_text(tokenizer(texts).to(self._device), normalize=True)
        self._directions: Tensor = 100 * (found[0::2] - found[1::2])  # [attributes, features]

    @torch.no_grad()
    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """See :class:`FaceScorer`."""
        crops = [crop(pixels, face, "aligned", self._shape) for pixels, face in zip(pictures, faces, strict=True)]
        images = torch.from_numpy(np.stack(crops)).to(self._device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values, device=self._device)[:, None, None] for values in (MEAN, STD))
        features: Tensor = self._network.encode_image((images - mean) / std, normalize=True)
        scores: np.ndarray = (features @ self._directions.T).double().cpu().numpy()
        return scores


def read_prompts(texts: list[str]) -> dict[str, tuple[str, str]]:
    """``["beard=a man with a beard|a shaved man"]`` as prompts of :class:`ClipScorer`.

    Raises:
        ScorerUnavailable: a text has another form.
    """
    prompts = {}
    for text in texts:
        name, equals, lines = text.partition("=")
        more, bar, less = lines.partition("|")
        if not (equals and bar and name.strip() and more.strip() and less.strip()):
            raise ScorerUnavailable(f"a pair of prompts reads 'beard=a man with a beard|a shaved man', not {text!r}")
        prompts[name.strip()] = (more.strip(), less.strip())
    return prompts


def import_open_clip() -> Any:
    """The module open_clip.

    Raises:
        ScorerUnavailable: it is not installed, or cannot be imported.
    """
    try:
        _declare_operators_of_torchvision()
        import open_clip
    except Exception as error:  # torchvision, which it imports, raises RuntimeError beside another build of torch
        missing = isinstance(error, ModuleNotFoundError) and error.name in ("open_clip", "ftfy")
        reason = "is not installed" if missing else f"cannot be imported ({error})"
        raise ScorerUnavailable(f"CLIP needs open_clip, which {reason}; run: {_INSTALL}") from error
    return open_clip


def _declare_operators_of_torchvision() -> None:
    """Let torchvision be imported where its operators cannot be loaded: built for CUDA, beside a torch for the CPU.

    It then describes operators that are not there, and fails. open_clip uses none of them, so that their names do.
    """
    while True:
        try:
            import torchvision  # noqa: F401
        except ModuleNotFoundError:
            return  # open_clip needs it, and says so, or is not there itself
        except RuntimeError as error:
            lacking = re.fullmatch(r"operator torchvision::(\w+) does not exist", str(error))
            if lacking is None:
                raise
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(f"{lacking[1]}(...) -> ...")  # type: ignore[no-untyped-call]
            _DECLARED.append(library)
        else:
            return


def clip_network(path: Path, model: str, quick_gelu: bool = False) -> Any:
    """open_clip's network of that name with the weights of a file.

    Raises:
        ScorerUnavailable: open_clip is not installed, or does not know the architecture.
        UnsupportedCheckpoint: the file holds other weights, or cannot be read.
    """
    open_clip, state = import_open_clip(), _state(path)
    try:
        network = open_clip.create_model(model, force_quick_gelu=quick_gelu)
    except RuntimeError as error:
        raise ScorerUnavailable(f"open_clip cannot make {model!r}: {error}") from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UnsupportedCheckpoint(f"{path} is not the weights of {model}: {str(error)[:200]}") from error
    return network


def _state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file; see :class:`ClipScorer` for the kinds and errors."""
    if path.suffix == ".safetensors":
        try:
            return load_tensors(path)[0]
        except InvalidFile as error:
            raise UnsupportedCheckpoint(str(error)) from error
    if not path.is_file():
        raise UnsupportedCheckpoint(f"{path} does not exist or is not a file")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler, the zip reader and torch raise each their own
        raise UnsupportedCheckpoint(
            f"{path} is not a state dict that can be read without running its code; OpenAI's own archives are "
            "TorchScript: save their state_dict() as safetensors first"
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UnsupportedCheckpoint(f"{path} holds no state dict")
    return {key.removeprefix("module."): value for key, value in state.items()}
