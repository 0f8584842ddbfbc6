"""What each term of an adaptation is for: the full set, and the set with each term left out in turn.

    python benchmarks/adaptation.py art.png                         # VGG16's terms
    python benchmarks/adaptation.py art.png --clip openai openai    # DIFA's

Every variant adapts from the same seed and is measured on the same people by ``facelatent evaluate adaptation``'s
numbers, at strength 1. Columns: distance to the reference's style (AlexNet's moments, which guide nothing) and palette;
what is left of people's diversity, identity and shape; detail and lattice, for grain; seconds. A term earns its place
where leaving it out makes a column worse that nothing else mends. ``--sheets FOLDER`` keeps pictures of the people.

``--only style,colours`` leaves out these alone, ``--people 6`` measures on fewer; the whole table takes about fifteen
runs of adapting, or half an hour on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

from common import publish

from facelatent.domain_adapt import (
    DIFA,
    GRAPHIC,
    NADA,
    VGG,
    AdaptSettings,
    DifaSettings,
    Reference,
    VggSettings,
    adapt,
    prepare_reference,
    suited,
)
from facelatent.domain_adapt.guidance import ClipGuidance, VggGuidance
from facelatent.evaluation.adaptation import PEOPLE, AdaptationSettings, evaluate_adaptation, reference_picture
from facelatent.images import open_image, save_image
from facelatent.stylegan_ops import DEFAULT_GENERATOR, Generator, load_generator

#: Columns: metrics of an evaluation by what the table calls them.
COLUMNS = {
    "style_alex": "style",
    "palette": "palette",
    "diversity": "diversity",
    "identity": "identity",
    "nearest": "own",
    "landmarks": "landmarks %",
    "detail": "detail",
    "lattice": "lattice",
}
#: DIFA's terms, each with the weight that it has.
CLIP_TERMS = ("direction", "style", "consistency")


def variants(settings: AdaptSettings, only: Sequence[str]) -> Iterator[tuple[str, AdaptSettings]]:
    """The full set, another seed of it, StyleGAN-NADA's direction alone, and the set without, or with, each term."""
    yield "all", settings
    yield "all, seed 1", replace(settings, seed=settings.seed + 1)
    yield "direction alone", replace(NADA, steps=settings.steps, batch=settings.batch, seed=settings.seed)
    terms = [field.name for field in fields(VggSettings)] if settings.vgg else list(CLIP_TERMS)
    for term in only or terms:
        if not settings.vgg:
            difa: DifaSettings = replace(settings.difa, **{term: 0.0})
            yield f"no {term}", replace(settings, difa=difa)
        elif getattr(settings.vgg, term):
            yield f"no {term}", replace(settings, vgg=replace(settings.vgg, **{term: 0.0}))
        else:
            yield f"with {term}", replace(settings, vgg=replace(settings.vgg, **{term: getattr(GRAPHIC, term)}))


def measure(
    generator: Generator,
    art: Path,
    reference: Reference,
    name: str,
    settings: AdaptSettings,
    guidance: VggGuidance | list[ClipGuidance],
    people: int,
    sheets: Path | None,
) -> dict[str, object]:
    style = adapt(generator, reference, settings, guidance, name=name)
    codes = {str(seed): generator.broadcast(generator.sample_w(seed, 0.8)).contiguous() for seed in PEOPLE[:people]}
    chosen = AdaptationSettings(strengths=(1.0,))
    found = evaluate_adaptation(generator, style, reference_picture(art)[0], codes, chosen)
    if sheets:
        save_image(found.sheet, sheets / f"{name.replace(' ', '-')}.jpg")
    metrics = found.metrics[f"{name} 1"]
    numbers = {label: metrics[metric] for metric, label in COLUMNS.items()}
    report = style.report
    return {"variant": name, **numbers, "steps": report["steps"], "seconds": report["seconds"], "MB": style.bytes / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("art", type=Path)
    parser.add_argument("--generator", default=DEFAULT_GENERATOR)
    parser.add_argument("--device")
    parser.add_argument("--clip", nargs="+", default=[], help="weights of ViT-B-32 and, if given twice, ViT-B-16")
    parser.add_argument("--only", default="", help="terms to leave out, with commas; all in turn if not given")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheets", type=Path, help="a folder for a sheet of people of each variant")
    parser.add_argument("--name", default="adaptation", help="of the file in results/")
    options = parser.parse_args()
    generator = load_generator(options.generator, options.device)
    models = ("ViT-B-32", "ViT-B-16")
    clips = [
        ClipGuidance(weights, model, device=generator.device)
        for weights, model in zip(options.clip, models, strict=False)
    ]
    reference = prepare_reference(open_image(options.art))
    settings = replace(DIFA if clips else VGG, seed=options.seed, patience=None)
    if not clips:
        settings = replace(settings, vgg=suited([reference]))
    if options.steps:
        settings = replace(settings, steps=options.steps)
    only = [term for term in options.only.split(",") if term]
    if options.sheets:
        options.sheets.mkdir(parents=True, exist_ok=True)
    guidance = clips or VggGuidance(device=generator.device)
    rows = []
    for name, variant in variants(settings, only):
        rows.append(measure(generator, options.art, reference, name, variant, guidance, options.people, options.sheets))
        print(rows[-1], flush=True)
    publish(
        options.name,
        rows,
        art=options.art.name,
        guidance=settings.terms,
        people=options.people,
        steps=settings.steps,
    )


if __name__ == "__main__":
    main()
