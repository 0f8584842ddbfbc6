"""Editor: every example of its docstrings and of the docs, and that it draws what the command line draws."""

from __future__ import annotations

import doctest
import io
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_style import a_style

import facelatent
from facelatent import Editor, editing, editor, notebook, show
from facelatent.boundaries import Boundary, loading
from facelatent.cli import main
from facelatent.errors import FacelatentError, IncompatibleLatent, UnknownAttribute
from facelatent.files import sha256_of
from facelatent.latent import Latent
from facelatent.stylegan_ops import MobileStyleGAN

DOCS = Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path: Path, tiny_generator: MobileStyleGAN, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a photo, its latent, a style and a mask, where the tiny generator is the default one."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shipped = {}
    for seed, name in enumerate(("smile", "age", "yaw", "gender")):
        normal = torch.randn(512, generator=torch.Generator().manual_seed(seed))
        shipped[name] = tmp_path / f"{name}.boundary.safetensors"
        Boundary(name, normal / normal.norm(), 0.0, 3.0, None, tiny_generator.name, tiny_generator.fingerprint).save(
            shipped[name]
        )
    monkeypatch.setattr(loading, "shipped_boundaries", lambda: shipped)
    monkeypatch.setattr(editor, "load_generator", lambda name, device: tiny_generator)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).resize((128, 128)).save("me.jpg")
    ws = tiny_generator.broadcast(tiny_generator.sample_w(5, 0.8)).detach()
    method = {"method": "optimize", "face": None, "aligned": False}
    quad = [[20.0, 20.0], [20.0, 84.0], [84.0, 84.0], [84.0, 20.0]]
    latent = Latent(ws, tiny_generator.name, tiny_generator.fingerprint, method, quad, sha256_of("me.jpg"))
    latent.save("me.latent.safetensors")
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    Image.fromarray(mask).save("half.png")
    a_style(tiny_generator).save("mona.safetensors")
    return folder


@pytest.mark.parametrize(("module", "least"), [(editor, 6), (notebook, 1)])
def test_docstrings(home: Path, module: ModuleType, least: int) -> None:
    runner = doctest.DocTestRunner()
    tests = [test for test in doctest.DocTestFinder().find(module, module.__name__) if test.examples]
    assert len(tests) >= least
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_examples_of_the_docs(page: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editor, "targeted", lambda edits, goals, latent, generator: (list(edits), []))
    monkeypatch.setattr(editing, "region_mask", lambda name, image: Image.open("half.png"))
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S)
    blocks = [block for block in blocks if "Editor" in block]
    assert blocks
    for block in blocks:
        exec(block, {})
    assert Path("smiling.png").is_file()


def test_it_draws_what_the_command_draws(home: Path, tiny: tuple[str, ...], grin: Path) -> None:
    command = ["edit", "me.latent.safetensors", "--attr", str(grin), "--alpha", "2", "-o", "cli.png", *tiny]
    assert CliRunner().invoke(main, command).exit_code == 0
    Editor.open("me.jpg").edit(grin, 2).save("api.png")
    assert Path("api.png").read_bytes() == Path("cli.png").read_bytes()


def test_methods_leave_it_as_it_is(home: Path) -> None:
    plain = Editor.open("me.jpg")
    before = plain.picture()
    smiling = plain.edit("smile", 2)
    assert plain.picture() == before
    assert plain.edits == []
    assert smiling.picture() != before
    assert smiling.edit("smile", -2).picture(64).size == (64, 64)
    styled = smiling.style("mona.safetensors", 0.5)
    assert styled.picture() != smiling.picture()
    assert smiling.style("mona.safetensors", 0).picture() == smiling.picture()


def test_goals_are_found_once_and_by_the_same_function(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def found(edits, goals, latent, generator):
        calls.append([(one.boundary.attribute, value) for one, value in goals])
        return [*edits, *(editing.replace(one, alpha=1.5) for one, _ in goals)], ["age: out of reach"]

    monkeypatch.setattr(editor, "targeted", found)
    forty = Editor.open("me.jpg").edit("smile", 2).to("age", 40).hold("gender", "yaw")
    assert calls == []
    forty.picture()
    assert [one.alpha for one in forty.edits] == [2, 1.5, 1.5, 1.5]
    assert forty.missed == ["age: out of reach"]
    assert calls == [[("age", 40), ("gender", None), ("yaw", None)]]


def test_pasting_leaves_the_rest_of_the_photo(home: Path) -> None:
    edited = Editor.open("me.jpg").edit("smile", 4)
    pasted, photo = np.asarray(edited.paste()), np.asarray(Image.open("me.jpg"))
    assert (pasted != photo).any()
    assert (pasted[:10] == photo[:10]).all()
    edited.save("out.png", paste=True)
    assert (np.asarray(Image.open("out.png")) == pasted).all()
    from_latent = Editor.open("me.latent.safetensors", photo="me.jpg").edit("smile", 4)
    assert (np.asarray(from_latent.paste()) == pasted).all()


def test_a_boundary_need_not_be_a_file(home: Path, grin: Path) -> None:
    me = Editor.open("me.jpg")
    loaded = Boundary.load(grin)
    assert me.edit(loaded, 2).picture() == me.edit(grin, 2).picture() != me.picture()
    with pytest.raises(IncompatibleLatent):
        me.edit(replace(loaded, fingerprint="other", w_space=""), 2)


def test_a_strip_is_of_the_edits_and_one_more(home: Path) -> None:
    me = Editor.open("me.jpg").edit("age", -1)
    made = me.strip("smile", (-2, 0, 2), 64)
    assert made.size == (3 * 64 + 2 * 4, 64 + 16)
    shown = [made.crop((left, 0, left + 64, 64)) for left in (0, 68, 136)]
    assert shown == [me.edit("smile", alpha).picture(64) for alpha in (-2, 0, 2)]


def test_its_name_says_what_is_to_become_of_it(home: Path) -> None:
    made = Editor.open("me.jpg").edit("smile", 2).to("age", 40).hold("gender").region("eyes").style("mona.safetensors")
    assert repr(made).startswith("<Editor of me.jpg: smile +2, age to 40, gender held, ")
    assert repr(made).endswith(" 1, eyes only>")
    assert repr(Editor.sample(3)) == "<Editor of seed 3: unedited>"


def test_notebooks_show_small_jpegs(home: Path) -> None:
    me = Editor.open("me.jpg")
    alone = Image.open(io.BytesIO(me._repr_jpeg_()))
    assert (alone.format, alone.size) == ("JPEG", (512, 512))
    wide = Image.new("RGBA", (1000, 500), "red")
    assert show(wide).image.size == (512, 256)
    both = show(wide, me, labels=["one", "two"], size=100).image
    assert both.size == (204, 116)
    assert [both.getpixel((50, y)) for y in (10, 50)] == [(255, 255, 255), (255, 0, 0)]  # wide ones are not squeezed
    with pytest.raises(FacelatentError, match="1 pictures, 2 labels"):
        show(me, labels=["one", "two"])
    with pytest.raises(FacelatentError, match="nothing to show"):
        show()


def test_refusals(home: Path) -> None:
    me = Editor.open("me.jpg")
    with pytest.raises(UnknownAttribute, match="did you mean 'smile'"):
        me.edit("smlie")
    with pytest.raises(FacelatentError, match="no photo to paste into"):
        Editor.open("me.latent.safetensors").paste()
    with pytest.raises(FacelatentError, match="the photo itself"):
        me.save("me.jpg", paste=True)
    with pytest.raises(FacelatentError, match="keeps its size"):
        me.save("x.jpg", 64, paste=True)
    with pytest.raises(FacelatentError, match="no region"):
        me.region("face").animate("x.gif", "smile")
    assert sha256_of("me.jpg") == me.latent.photo_sha256


def test_it_is_exported() -> None:
    assert facelatent.Editor is Editor
    assert "Editor" in facelatent.__all__
