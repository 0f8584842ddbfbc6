"""The documentation is true: links lead somewhere, commands exist, examples run, the API's page is the code's."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import json
import re
import shlex
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import torch

from facelatent.boundaries import Boundary
from facelatent.cli import main
from facelatent.delta import GeneratorDelta
from facelatent.domain_adapt import Style
from facelatent.files import load_tensors
from facelatent.latent import Latent
from facelatent.stylegan_ops import MobileStyleGAN, save_generator

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")])
#: Modules with examples; those of editor and notebook need files, and are run by test_editor.
WITH_EXAMPLES = sorted(
    path
    for path in (ROOT / "facelatent").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8") and path.name not in ("editor.py", "notebook.py")
)


def writer(name: str) -> ModuleType:
    """What writes a page, docs/``name``.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


API, COMMANDS = writer("make_api"), writer("make_commands")


def text_of(page: Path) -> str:
    """A page's Markdown; of a notebook that of its Markdown cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def prose(text: str) -> str:
    """Without code, in which brackets are no links and # is no heading."""
    return re.sub(r"^```.*?^```$|^    .*?$|`[^`\n]+`", "", text, flags=re.M | re.S)


@cache
def anchors(text: str) -> set[str]:
    """What a page's headings are linked to by."""
    seen: Counter[str] = Counter()
    without_blocks = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#{1,6} (.+)$", without_blocks, flags=re.M)
    return {API.anchor(re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading), seen) for heading in headings}


def links(text: str) -> list[str]:
    """Targets of links and pictures."""
    return re.findall(r"(?:\]\(|(?:src|href)=\")([^)\s\"]+)", text)


def broken(page: Path, text: str) -> list[str]:
    """Links of a page, which has this text, that lead nowhere."""
    wrong = []
    for link in links(prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target.exists() and target.is_relative_to(ROOT)
        if not there or (anchor and anchor not in anchors(text if target == page else text_of(target))):
            wrong.append(link)
    return wrong


def command_lines(text: str) -> list[str]:
    """``facelatent ...`` of a page: lines of blocks; and what stands between backticks, which may leave things out."""
    joined = re.sub(r"\\\n\s*", "", text)
    mentioned = re.findall(r"`(facelatent [^`\n]+)`", re.sub(r"^```.*?^```$", "", joined, flags=re.M | re.S))
    return [*re.findall(r"^(?: {4,}|\$ )(facelatent .+)$", joined, flags=re.M), *(f"{one} ..." for one in mentioned)]


def words_of(line: str) -> list[str]:
    """A line's words up to a pipe, a redirection, or the end of the command; ``...`` stands for anything."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>;&")
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= set("|<>;&"):
            break
        words.append(word)
    return [word for word in words[1:] if word != "..."]


def wrong_with(line: str) -> str | None:
    """What click would say about a command line, without running it; None if nothing."""
    words, command = words_of(line), main
    context = click.Context(main, info_name="facelatent", **main.context_settings)
    try:
        while isinstance(command, click.Group):
            _, words, _ = _parsed(command, context, words)
            if not words:
                return None
            name, command, words = command.resolve_command(context, words)
            assert command is not None
            context = click.Context(command, info_name=name, parent=context)
        values, rest, _ = _parsed(command, context, words)
        if rest:
            return f"too many arguments: {rest}"
        return _values_wrong(command, context, values, "..." in line)
    except click.UsageError as error:
        return error.format_message()


def _parsed(command: click.Command, context: click.Context, words: list[str]) -> tuple[dict[str, Any], list[str], Any]:
    return command.make_parser(context).parse_args(args=list(words))


def _values_wrong(
    command: click.Command, context: click.Context, values: dict[str, Any], shortened: bool
) -> str | None:
    """Missing ones, and those that are none of a choice or no number; files need not be there."""
    checked = (click.Choice, click.types.IntParamType, click.types.FloatParamType, click.IntRange, click.FloatRange)
    for parameter in command.params:
        value = values.get(parameter.name or "")
        given = [one for one in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(one, str)]
        if parameter.required and not given and not shortened:
            return f"{parameter.name} is missing"
        for one in given:
            if isinstance(parameter.type, checked) and not one.isupper():
                parameter.type.convert(one, parameter, context)
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page, text_of(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    wrong = {line: reason for line in command_lines(text_of(page)) if (reason := wrong_with(line))}
    assert wrong == {}


def test_every_page_is_reachable_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    seen, left = {index}, [index]
    while left:
        page = left.pop()
        near = ((page.parent / link.partition("#")[0]).resolve() for link in links(prose(text_of(page))))
        found = {one for one in near if one.suffix == ".md" and one.is_relative_to(index.parent) and one.exists()}
        left += found - seen
        seen |= found
    assert {page.name for page in index.parent.glob("*.md")} == {page.name for page in seen}


def test_every_picture_is_shown() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(text_of(page))}
    pictures = {path for path in (ROOT / "docs" / "images").rglob("*") if path.is_file()}
    assert sorted(str(path.relative_to(ROOT)) for path in pictures - shown) == []


@pytest.mark.parametrize("written", [API, COMMANDS], ids=["api", "commands"])
def test_written_pages_say_what_the_code_does(written: ModuleType) -> None:
    assert written.PAGE.read_text(encoding="utf-8") == written.page(), "run 'make docs'"


def files_of_ours(folder: Path, generator: MobileStyleGAN) -> dict[str, Path]:
    """One file of each kind with all that it can hold, by the heading of docs/formats.md that describes it."""
    weight = "blocks.0.conv1.bias"
    half = generator.state_dict()[weight].half()
    names = generator.name, generator.fingerprint
    latent = Latent(torch.zeros(1, generator.num_ws, 512), *names, delta=GeneratorDelta({weight: half}, names[1]))
    boundary = Boundary(
        "smile",
        torch.eye(512)[0],
        0.0,
        1.0,
        steps=torch.zeros(1, 512),
        layer_resolutions=(4,),
        styles={"conv1": torch.zeros(32)},
    )
    style = Style({weight: half}, {"other": (torch.zeros(2, 1).half(), torch.zeros(1, 2).half())}, *names, "")
    made = {
        "Latents": folder / "a.latent.safetensors",
        "Boundaries": folder / "a.boundary.safetensors",
        "Styles": folder / "a.style.safetensors",
        "Generators": folder / "a.safetensors",
    }
    latent.save(made["Latents"])
    boundary.save(made["Boundaries"])
    style.save(made["Styles"])
    save_generator(generator, made["Generators"])
    shipped = ROOT / "facelatent" / "inversion" / "encoders" / "library" / "mobile-ffhq-1024.encoder.safetensors"
    return {**made, "Encoders": shipped}


def test_the_page_of_files_names_every_field(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    parts = dict(re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", text_of(ROOT / "docs" / "formats.md"), flags=re.M | re.S))
    common = parts["What our safetensors have in common"]
    for heading, path in files_of_ours(tmp_path, tiny_generator).items():
        tensors, metadata = load_tensors(path)
        prefixes = ("delta.", "style.", "left.", "right.")
        named = {next((one for one in prefixes if key.startswith(one)), f"{key}`") for key in tensors}
        if heading == "Generators":  # its weights are as many as the network has
            named = {key for key in named if key.startswith("w_")}
        missing = [key for key in named if f"`{key}" not in parts[heading]]
        missing += [key for key in metadata if f"`{key}`" not in parts[heading] + common]
        assert missing == [], f"{heading} lacks {missing}"


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_of_docstrings(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("facelatent edit me.jpg --attr smile --alpha 2 -o out.jpg", None),
        ("facelatent edit - --attr smile < me.jpg > out.png", None),
        ("facelatent adept me.jpg", "No such command"),
        ("facelatent edit me.jpg --atrt smile", "No such option"),
        ("facelatent edit me.jpg --alpha strong --attr smile", "not a valid float"),
        ("facelatent edit --attr smile", "missing"),
        ("facelatent attributes lits", "No such command"),
        ("facelatent render me.jpg --format tga", "is not one of"),
        ("facelatent inspect a.pt b.pt", "too many"),
    ],
)
def test_the_check_of_commands(line: str, reason: str | None) -> None:
    found = wrong_with(line)
    assert found is None if reason is None else found is not None and reason in found


def test_the_check_of_links() -> None:
    text = (
        "# A heading: of `two`\n[a](nowhere.md) [b](#a-heading-of-two) [c](#none) [d](../README.md#use) `[e](f.md)`\n"
    )
    assert broken(ROOT / "docs" / "python.md", text) == ["nowhere.md", "#none"]
    assert links('![a](b.jpg) <img src="c.jpg">') == ["b.jpg", "c.jpg"]
    assert command_lines("    facelatent edit \\\n      a\n`facelatent config` and `facelatent`") == [
        "facelatent edit a",
        "facelatent config ...",
    ]
