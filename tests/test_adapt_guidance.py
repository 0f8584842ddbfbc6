"""Image encoders that guide, and texts."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.boundaries.scorers.clip import import_open_clip
from facelatent.domain_adapt.guidance import ClipGuidance, VggGuidance
from facelatent.domain_adapt.text import TEMPLATES, cleaned_text, text_direction
from facelatent.errors import GuidanceUnavailable, UnsupportedCheckpoint


def pictures(side: int = 224) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_missing_open_clip_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(GuidanceUnavailable, match=r"pip install 'facelatent\[clip\]'"):
        ClipGuidance(tmp_path / "vit.safetensors")


def test_half_precision_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(GuidanceUnavailable, match="fp16 needs a GPU"):
        ClipGuidance(tmp_path / "vit.safetensors", precision="fp16")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-B-16"])
def test_clip_against_open_clips_own_forward(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_clip = import_open_clip()
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = open_clip.create_model(model, force_quick_gelu=True).eval()
    path = tmp_path / "vit.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    guidance = ClipGuidance(path, model)
    images = pictures().requires_grad_(True)
    found = guidance(images)
    constants = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in constants)
    with torch.no_grad():
        own = network.encode_image(((images + 1) / 2 - mean) / std, normalize=True)
    assert (found.embedding - own).abs().max() <= 1e-5
    assert found.tokens.shape == (2, 49 if model == "ViT-B-32" else 196, 768)
    found.embedding.sum().backward()
    assert images.grad is not None and bool(images.grad.any())
    assert len(guidance._block._forward_hooks) == 0
    assert guidance.describe_texts(["a photo", "a painting"]).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    with pytest.raises(UnsupportedCheckpoint):
        ClipGuidance(path, "ViT-B-16" if model == "ViT-B-32" else "ViT-B-32")
    with pytest.raises(GuidanceUnavailable, match="neither a file, an asset nor an open_clip tag"):
        ClipGuidance("no-such-tag", model)
    monkeypatch.setattr(open_clip, "create_model", lambda *names, **options: 1 / 0)
    with pytest.raises(GuidanceUnavailable, match=r"cannot fetch the weights 'openai' .*division.*name the file"):
        ClipGuidance("openai", model)
    monkeypatch.undo()
    with pytest.raises(GuidanceUnavailable, match="no transformer block 40"):
        ClipGuidance(path, model, layer=40)
    with pytest.raises(GuidanceUnavailable, match="open_clip cannot make 'ViT-Q'"):
        ClipGuidance(path, "ViT-Q")


@pytest.mark.assets
def test_vgg_describes_pictures(asset: object) -> None:
    guidance = VggGuidance()
    images = pictures(64).requires_grad_(True)
    found = guidance(images)
    assert found.tokens.shape == (2, 32 * 32, 512)
    assert found.embedding.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    with torch.no_grad():
        near, far = (guidance(one).embedding for one in (images + 0.02, images.flip(1) * 0.3 + 0.5))
    assert bool(((found.embedding - near).norm(dim=1) < (found.embedding - far).norm(dim=1)).all())
    found.embedding[0, 0].backward()
    assert images.grad is not None and bool(images.grad[0].any())


class _Reader:
    """Text embeddings by letter counts."""

    def describe_texts(self, texts: list[str]) -> Tensor:
        counts = torch.tensor([[text.count(letter) for letter in "abcdefghijklmnop"] for text in texts]).float()
        return F.normalize(counts + 0.1, dim=1)


def test_texts_give_a_unit_direction_that_turns_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", SimpleNamespace(fix_text=lambda text: text))
    there, back = (text_direction(_Reader(), *pair) for pair in (("photo", "fresco"), ("fresco", "photo")))
    assert float(there.norm()) == pytest.approx(1, abs=1e-6)
    assert torch.allclose(there, -back)
    for pair in (("photo", " photo "), ("", "fresco")):
        with pytest.raises(GuidanceUnavailable, match="two different texts"):
            text_direction(_Reader(), *pair)


def test_texts_are_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", SimpleNamespace(fix_text=lambda text: text.replace("Ã©", "é")))
    assert cleaned_text("  portrait&amp;amp;  by DorÃ© ") == "portrait& by Doré"
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(GuidanceUnavailable, match="need ftfy"):
        cleaned_text("photo")


def test_templates_are_different_and_take_one_word() -> None:
    assert len(set(TEMPLATES)) == len(TEMPLATES) >= 36
    assert all(template.count("{}") == 1 for template in TEMPLATES)
