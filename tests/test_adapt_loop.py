"""Adapting small generators: that it descends, stops, resumes, and says what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapt_fixtures import blind_guidance, painting, reference, small_stylegan2
from conftest import make_tiny_generator
from torch import Tensor

from facelatent.domain_adapt import (
    DIFA,
    FAITHFUL,
    GRAPHIC,
    NADA,
    PAINTED,
    VGG,
    AdaptSettings,
    DifaSettings,
    VggSettings,
    adapt,
)
from facelatent.domain_adapt.adapting import CHECKPOINT
from facelatent.domain_adapt.descent import Descent, follow
from facelatent.domain_adapt.difa_terms import DifaTerms, mean_embedding
from facelatent.domain_adapt.guidance import Described, VggGuidance
from facelatent.domain_adapt.guidance import vgg as vgg_module
from facelatent.domain_adapt.pool import source_pool
from facelatent.domain_adapt.terms import Batch
from facelatent.domain_adapt.tuned import Adapted, Rates
from facelatent.domain_adapt.vgg_terms import VggTerms
from facelatent.errors import FacelatentError, InvalidFile
from facelatent.stylegan_ops import Generator, MobileStyleGAN

FEW = replace(VGG, steps=4, people=3)
TERMS = [name for name in VggSettings.__dataclass_fields__ if name != "palette"]


@pytest.fixture(autouse=True)
def small_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guidance looks at 64 px: enough for what is tested, and sixteen times as fast."""
    monkeypatch.setattr(vgg_module, "SIDE", 64)


@pytest.fixture(scope="module")
def guidance() -> VggGuidance:
    return blind_guidance()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_it_descends_and_leaves_the_source_alone(tiny_generator: MobileStyleGAN, guidance: VggGuidance) -> None:
    before = {name: value.clone() for name, value in tiny_generator.state_dict().items()}
    style = adapt(tiny_generator, reference(), replace(FEW, steps=16, rate=6e-3, warm_up=2, patience=None), guidance)
    assert same(before, dict(tiny_generator.state_dict()))
    assert not any(weight.requires_grad for weight in tiny_generator.parameters())
    assert style.report["steps"] == 16
    assert "affine" not in " ".join(style.names())
    assert not any(name.startswith(("mapping", "const", "conv1.")) for name in style.names())
    terms = VggTerms(guidance, [reference()], source_pool(tiny_generator, 3, FEW.psi, 0), 3)
    batch = terms.batch(0)
    adapted = style.applied(tiny_generator)
    with torch.no_grad():
        first, last = (
            sum(float(loss) for loss in terms.losses(batch, one.synthesis(batch.ws), 0).values())
            for one in (tiny_generator, adapted)
        )
    assert last < 0.95 * first


def test_it_is_deterministic_and_the_seed_counts(tiny_generator: MobileStyleGAN, guidance: VggGuidance) -> None:
    first, second, other = (
        adapt(tiny_generator, reference(), replace(FEW, steps=2, seed=seed), guidance) for seed in (0, 0, 1)
    )
    name = sorted(first.names())[0]
    assert torch.equal(first.difference(name), second.difference(name))
    assert not torch.equal(first.difference(name), other.difference(name))


def test_a_stopped_run_goes_on_where_it_was(
    tiny_generator: MobileStyleGAN, guidance: VggGuidance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = adapt(tiny_generator, reference(), FEW, guidance)
    advance = Descent.advance

    def interrupted(descent: Descent) -> None:
        if descent.step == 2:
            raise KeyboardInterrupt
        advance(descent)

    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Descent, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adapt(tiny_generator, reference(), FEW, guidance, work=tmp_path)
    resumed = adapt(tiny_generator, reference(), FEW, guidance, work=tmp_path, say=said.append)
    assert "going on from step 2 of 4" in said[0]
    for name in whole.names():
        assert torch.equal(whole.difference(name), resumed.difference(name)), name
    assert (tmp_path / "step-0004.jpg").is_file()
    with pytest.raises(InvalidFile, match="another reference"):
        adapt(tiny_generator, reference(1), FEW, guidance, work=tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"no")
    with pytest.raises(InvalidFile):
        adapt(tiny_generator, reference(), FEW, guidance, work=tmp_path)


def test_a_loss_that_is_not_a_number_is_one_line_and_keeps_progress(
    tiny_generator: MobileStyleGAN, guidance: VggGuidance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = VggTerms.losses

    def broken(terms: VggTerms, batch: Batch, images: Tensor, step: int) -> dict[str, Tensor]:
        found = losses(terms, batch, images, step)
        return {**found, "statistics": found["statistics"] * float("nan")} if step == 2 else found

    with monkeypatch.context() as patch:
        patch.setattr(VggTerms, "losses", broken)
        with pytest.raises(FacelatentError, match=r"the loss \(statistics\) is no longer finite at step 3.*--rate"):
            adapt(tiny_generator, reference(), FEW, guidance, work=tmp_path)
    said: list[str] = []
    assert adapt(tiny_generator, reference(), FEW, guidance, work=tmp_path, say=said.append).report["steps"] == 4
    assert "step 2 of 4" in said[0]


def test_a_gradient_that_is_not_a_number(
    tiny_generator: MobileStyleGAN, guidance: VggGuidance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        VggTerms, "losses", lambda self, batch, images, step: {"root": (images - images.detach()).abs().sum().sqrt()}
    )
    with pytest.raises(FacelatentError, match=r"the gradient of .* is no longer finite at step 1"):
        adapt(tiny_generator, reference(), FEW, guidance)


def test_short_memory_is_one_line(
    tiny_generator: MobileStyleGAN, guidance: VggGuidance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(VggTerms, "losses", full)
    said = r"out of memory at step 1 with a batch of 1 at 64 px; use a smaller generator$"
    with pytest.raises(FacelatentError, match=said):
        adapt(tiny_generator, reference(), FEW, guidance)


def test_it_ends_when_nothing_improves(
    tiny_generator: MobileStyleGAN, guidance: VggGuidance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VggTerms, "losses", lambda self, batch, images, step: {"still": 1 + 0 * images.mean()})
    still = replace(FEW, steps=30, patience=3, vgg=replace(PAINTED, palette=0.0))
    style = adapt(tiny_generator, reference(), still, guidance)
    assert style.report["steps"] == 6
    assert style.bytes == 0
    recoloured = adapt(tiny_generator, reference(), replace(still, vgg=PAINTED), guidance)
    assert set(recoloured.names()) == {"to_img_weight", "to_img_bias"}


@pytest.mark.parametrize("name", TERMS)
def test_each_term_can_be_left_out(tiny_generator: MobileStyleGAN, guidance: VggGuidance, name: str) -> None:
    pool = source_pool(tiny_generator, 2, 0.85, 0)
    terms = VggTerms(guidance, [reference()], pool, 2, settings=replace(GRAPHIC, **{name: 0.0}))
    batch = terms.batch(0)
    images = (tiny_generator.synthesis(batch.ws).detach() * 0.8 + 0.1).requires_grad_(True)
    losses = terms.losses(batch, images, 0)
    assert losses.keys() == set(TERMS) - {name}
    for other, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, images, retain_graph=True)
        assert bool(gradient.isfinite().all()), other
        assert float(loss.detach()) >= 0, other


def test_every_person_of_the_pool_is_seen_once_a_round(tiny_generator: MobileStyleGAN, guidance: VggGuidance) -> None:
    terms = VggTerms(guidance, [reference()], source_pool(tiny_generator, 6, 0.85, 0), 2)
    rounds = [[terms.batch(step).numbers for step in steps] for steps in ((0, 1, 2), (3, 4, 5))]
    first, second = ([number for numbers in one for number in numbers] for one in rounds)
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second


def test_one_rate_moves_folded_and_unfolded_weights_alike(tiny_generator: MobileStyleGAN) -> None:
    groups = Adapted(tiny_generator, "convolutions", Rates(1e-3, 0.0)).groups()
    rates = {round(float(str(group["lr"])), 8) for group in groups}
    assert rates == {1e-3, round(1e-3 / (9 * 32) ** 0.5, 8), round(1e-3 / (9 * 8) ** 0.5, 8)}
    assert {group["lr"] for group in Adapted(small_stylegan2(), "published", Rates(1e-3, 0.0)).groups()} == {1e-3}


@pytest.mark.parametrize("make", [make_tiny_generator, small_stylegan2])
def test_fine_layers_have_a_rate_of_their_own(make: Callable[[], Generator], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facelatent.domain_adapt.tuned.FINE", 32)
    adapted = Adapted(make(), "convolutions", Rates(1.0, 1.0, 0.0))
    slowed = {name for name, group in zip(adapted.weights, adapted.groups(), strict=True) if not group["lr"]}
    sides = {name: weight.shape[-1] for name, weight in adapted.generator.named_buffers() if name.endswith("noise")}
    fine = {name.rpartition(".")[0] for name, side in sides.items() if side >= 32}
    assert slowed
    assert slowed == {name for name in adapted.weights if name.rpartition(".")[0] in fine}


def test_scopes_of_stylegan2() -> None:
    generator = small_stylegan2()
    ours = Adapted(generator, "convolutions", Rates(1e-3, 1e-3)).weights
    published = Adapted(generator, "published", Rates(1e-3, 0.0)).weights
    assert "synthesis_network.const" in published
    assert "synthesis_network.blocks.0.conv1.affine.weight" in published
    assert not any("to_rgb" in name or "mapping" in name for name in published)
    assert not any("affine" in name or "const" in name or "mapping" in name for name in ours)
    assert any("to_rgb.weight" in name for name in ours)


@pytest.mark.slow
def test_a_stylegan2_of_64_px(guidance: VggGuidance) -> None:
    generator = small_stylegan2()
    style = adapt(generator, reference(), replace(VGG, steps=12, people=4, rate=1e-2, colour_rate=1e-2), guidance)
    losses = []
    terms = VggTerms(guidance, [reference()], source_pool(generator, 4, 0.85, 0), 4)
    batch = terms.batch(0)
    with torch.no_grad():
        for one in (generator, style.applied(generator)):
            losses.append(sum(float(loss) for loss in terms.losses(batch, one.synthesis(batch.ws), 0).values()))
    assert losses[1] < losses[0]
    assert style.report["peak_megabytes"] > 0


class _Blots:
    """Guidance that is a fixed linear map of small pictures."""

    name, version = "blots", "blots 1"

    def __init__(self) -> None:
        self.map = torch.randn(3 * 64, 32, generator=torch.Generator().manual_seed(0))

    def __call__(self, images: Tensor) -> Described:
        small = torch.nn.functional.adaptive_avg_pool2d(images, 8)
        embedding = torch.nn.functional.normalize(small.flatten(1) @ self.map, dim=1)
        return Described(embedding, small.flatten(2).transpose(1, 2))


class _FirstColours:
    """An encoder that reads codes off small pictures."""

    name, num_ws, input_side = "first colours", 8, 64

    def __init__(self) -> None:
        self.seen = 0

    def encode(self, images: Tensor) -> Tensor:
        self.seen += 1
        small = torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
        return small[:, None, :64].repeat(1, 8, 8)

    def encode_for(self, images: Tensor, generator: Generator) -> Tensor:
        return self.encode(images)


def clip_descent(generator: Generator, settings: AdaptSettings, encoder: _FirstColours | None = None) -> Descent:
    terms = DifaTerms(
        [_Blots(), _Blots()], [reference()], generator, encoder, settings.steps, 2, settings.seed, settings.difa
    )
    return Descent(generator, terms, settings, {"of": "a test"})


FEW_CLIP = replace(DIFA, steps=6, difa=DifaSettings(mean_samples=4, window=2))


def test_the_published_terms_descend(tiny_generator: MobileStyleGAN) -> None:
    descent = clip_descent(tiny_generator, replace(FEW_CLIP, steps=40, rate=5e-3), _FirstColours())
    follow(descent, None, 10, lambda step: None, 50, lambda loss: None)
    assert descent.last.keys() == {"direction blots", "style blots", "consistency"}
    assert sum(descent.history[-8:]) < 0.95 * sum(descent.history[:8])
    changed = {name for name, value in descent.deltas().items() if bool(value.any())}
    assert "const" in changed
    assert "blocks.0.conv1.affine.weight" in changed
    assert not any(name.startswith(("mapping", "to_img")) for name in changed)


def test_published_terms_resume_with_their_queues(tiny_generator: MobileStyleGAN, tmp_path: Path) -> None:
    whole = clip_descent(tiny_generator, FEW_CLIP, _FirstColours())
    follow(whole, None, 10, lambda step: None, 50, lambda loss: None)
    first = clip_descent(tiny_generator, FEW_CLIP, _FirstColours())
    for _ in range(3):
        first.advance()
    first.save(tmp_path / "kept.safetensors")
    second = clip_descent(tiny_generator, FEW_CLIP, _FirstColours())
    second.load(tmp_path / "kept.safetensors")
    follow(second, None, 10, lambda step: None, 50, lambda loss: None)
    assert whole.history == second.history
    assert same(whole.deltas(), second.deltas())


def test_previews_push_into_the_queues_only_as_published(tiny_generator: MobileStyleGAN) -> None:
    for clip, pushed in ((FEW_CLIP.difa, 0), (replace(FAITHFUL, mean_samples=4), 1)):
        descent = clip_descent(tiny_generator, replace(FEW_CLIP, difa=clip), _FirstColours())
        terms = descent.terms
        assert isinstance(terms, DifaTerms)
        images = tiny_generator.synthesis(terms.batch(0).ws)
        terms.previewed(images, images)
        assert (terms.state()["queues"].shape[0] if terms.state() else 0) == pushed


def test_the_mean_of_the_source_is_kept_and_can_be_left_out(
    tiny_generator: MobileStyleGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    guidance = _Blots()
    mean = mean_embedding(guidance, tiny_generator, DifaSettings(mean_samples=5))
    assert 0 < float(mean.norm()) < 1
    monkeypatch.setattr(_Blots, "__call__", lambda self, images: pytest.fail("it was computed again"))
    assert torch.equal(mean, mean_embedding(guidance, tiny_generator, DifaSettings(mean_samples=5)))
    monkeypatch.undo()
    assert not mean_embedding(_Blots(), tiny_generator, DifaSettings(mean_samples=0)).any()


def test_the_direction_alone_takes_any_guidance(tiny_generator: MobileStyleGAN, guidance: VggGuidance) -> None:
    style = adapt(
        tiny_generator, reference(), replace(NADA, steps=2, difa=replace(NADA.difa, mean_samples=2)), guidance
    )
    assert list(style.report["losses"]) == ["direction vgg16"]
    assert style.report["encoder"] is None


def test_several_references_give_all_their_tokens(tiny_generator: MobileStyleGAN) -> None:
    kept = []
    for clip in (FEW_CLIP.difa, replace(FEW_CLIP.difa, first_tokens_only=True)):
        terms = DifaTerms([_Blots()], [reference(), reference(1)], tiny_generator, None, 4, settings=clip)
        kept.append(terms._tokens[0])
    assert kept[0] is not None and kept[1] is not None
    assert kept[0].shape == (1, 128, 3)
    assert torch.equal(kept[1], kept[0][:, :64])


def test_what_does_not_fit_together(tiny_generator: MobileStyleGAN, guidance: VggGuidance) -> None:
    with pytest.raises(FacelatentError, match="CLIP's weights are not given"):
        adapt(tiny_generator, reference(), DIFA)
    with pytest.raises(FacelatentError, match="a text needs CLIP"):
        adapt(tiny_generator, None, FEW, guidance, texts=("photo", "oil painting"))
    with pytest.raises(FacelatentError, match="vgg16 reads no texts"):
        adapt(tiny_generator, None, replace(DIFA, steps=1), guidance, texts=("photo", "oil painting"))
    with pytest.raises(FacelatentError, match="nothing to adapt to"):
        adapt(tiny_generator, None, FEW, guidance)
    with pytest.raises(FacelatentError, match="needs at least 64"):
        adapt(tiny_generator, painting((40, 90)), FEW, guidance)
    for wrong in ({"steps": 0}, {"rate": 0.0}, {"averaging": 1.0}):
        with pytest.raises(ValueError, match=r"at least 1|positive"):
            AdaptSettings(**wrong)
