"""The studio without the web: looks and undo, the thread that draws, and a face from photo to saved file."""

from __future__ import annotations

import io
import shlex
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from studio_parts import STEPS, picture_bytes, with_style, workbench

from facelatent.cli import main
from facelatent.editing import draw
from facelatent.errors import FacelatentError, IncompatibleLatent, InvalidFile, UnknownAttribute, UnreadableImage
from facelatent.inversion import Recipe
from facelatent.latent import Latent
from facelatent.note import EDITED, GENERATED
from facelatent.photo_latents import invert_photo, latent_path
from facelatent.progress import progress_bar
from facelatent.studio import History, Look, Session, Studio, StyleShelf, Workbench
from facelatent.studio import drawing as drawing_module
from facelatent.studio import session as session_module
from facelatent.studio.command import command_for
from facelatent.studio.saving import clip_file, latent_file, photo_file, picture_file
from facelatent.studio.serving import Serving
from facelatent.studio.session import Stopped
from facelatent.studio.studio import TooManyFaces, UnknownFace, shown_name
from facelatent.studio.worker import Superseded, Worker
from facelatent.stylegan_ops import MobileStyleGAN

pytest_plugins = ("studio_parts",)

ATTRIBUTES = ("age", "smile", "yaw")


@pytest.fixture
def bench(tiny_generator: MobileStyleGAN, tmp_path: Path) -> Workbench:
    return workbench(tiny_generator, tmp_path)


@pytest.fixture
def face(bench: Workbench, tiny_generator: MobileStyleGAN) -> Session:
    """A face that is ready."""
    session = Session(bench, "me.jpg")
    ws = tiny_generator.broadcast(tiny_generator.sample_w(3, 0.7)).contiguous()
    session.take(Latent(ws, tiny_generator.name, tiny_generator.fingerprint))
    return session


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def until(done, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


# Looks


def test_a_look_is_read_in_the_order_of_the_sliders() -> None:
    look = Look.read({"alphas": {"yaw": -1, "smile": 2.004, "age": 0}}, ATTRIBUTES, ())
    assert look == Look((("smile", 2.0), ("yaw", -1.0)))
    assert Look.read(look.described(), ATTRIBUTES, ()) == look


def test_what_is_held_has_no_strength_of_its_own() -> None:
    look = Look.read({"alphas": {"smile": 2, "age": 1}, "holds": ["age", "yaw"]}, ATTRIBUTES, ())
    assert look == Look((("smile", 2.0),), ("age", "yaw"))


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), -5.01, 1e300, 10**400, True, "2", None, [2], {}])
def test_strengths_that_are_none(alpha: object) -> None:
    with pytest.raises(FacelatentError, match="strength of smile"):
        Look.read({"alphas": {"smile": alpha}}, ATTRIBUTES, ())


@pytest.mark.parametrize("strength", [float("nan"), float("-inf"), -0.05, 1.55, 10**400, True, "1", None, [1]])
def test_strengths_of_a_style_that_are_none(strength: object) -> None:
    with pytest.raises(FacelatentError, match=r"strength of the style is a number from 0 to 1\.5"):
        Look.read({"style": "klimt", "style_strength": strength}, ATTRIBUTES, ("klimt",))


@pytest.mark.parametrize(
    "given",
    [None, [], "smile", 3, {"alpha": {}}, {"alphas": []}, {"alphas": {}, "holds": "age"}, {"style": 3},
     {"style": "mona"}, {"holds": [["age"]]}, {"holds": [None]}],
)  # fmt: skip
def test_looks_that_are_none(given: object) -> None:
    with pytest.raises(FacelatentError):
        Look.read(given, ATTRIBUTES, ("klimt",))


def test_an_unknown_attribute_is_named_with_the_known_ones() -> None:
    for given in ({"alphas": {"smirk": 1}}, {"holds": ["smirk"]}):
        with pytest.raises(UnknownAttribute, match=r"'smirk' \(known: age, smile, yaw\)"):
            Look.read(given, ATTRIBUTES, ())


def test_history_goes_back_and_forth_and_forgets_what_was_undone() -> None:
    history, looks = History(), [Look((("smile", float(alpha)),)) for alpha in (1, 2, 3)]
    assert not history.can_undo
    history.undo()
    assert history.current == history.before == history.after == Look()
    for look in looks:
        history.put(look)
        history.put(look)  # the same again is no step
    assert (history.before, history.current, history.after) == (looks[1], looks[2], looks[2])
    history.undo()
    history.undo()
    assert (history.before, history.current, history.after) == (Look(), looks[0], looks[1])
    history.redo()
    assert history.current == looks[1]
    assert history.can_undo
    assert history.can_redo
    history.put(Look(holds=("age",)))
    assert not history.can_redo
    history.undo()
    assert history.current == looks[1]


def test_history_is_bounded() -> None:
    history = History()
    for step in range(1000):
        history.put(Look((("smile", step / 200 - 2.5),)))
    steps = 0
    while history.can_undo:
        history.undo()
        steps += 1
    assert steps == 199


# Commands


def test_command_says_everything_and_quotes_it() -> None:
    look = Look((("smile", 2.0), ("age", -0.5)), ("yaw", "gender"), "klimt", 0.8)
    line = command_for("my face.jpg", look, "-out.png", "age", {"klimt": Path("k l.safetensors")}, ("--device", "cpu"))
    assert shlex.split(line) == [
        "facelatent", "edit", "my face.jpg", "--attr", "smile", "--alpha", "2", "--attr", "age", "--alpha", "-0.5",
        "--hold", "yaw,gender", "--style", "k l.safetensors", "--style-strength", "0.8",
        "--device", "cpu", "-o", "./-out.png",
    ]  # fmt: skip


@pytest.mark.parametrize("strengths", [{}, {"bright": 2.0}, {"bright": -1.3, "red": 0.7}])
def test_the_command_draws_what_is_shown(
    face: Session, strengths: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: tuple[str, ...]
) -> None:
    names = {boundary.attribute: name for name, boundary in face.bench.boundaries.items()}
    face.choose(face.read({"alphas": {names[name]: alpha for name, alpha in strengths.items()}}))
    monkeypatch.chdir(tmp_path)
    for name, data in (latent_file(face), picture_file(face)):
        (tmp_path / f"studio-{name}").write_bytes(data)
    (tmp_path / "studio-me.latent.safetensors").rename("me.latent.safetensors")
    words = shlex.split(face.command())
    assert words[:3] == ["facelatent", "edit" if strengths else "render", "me.latent.safetensors"]
    result = CliRunner().invoke(main, [*words[1:], *tiny])
    assert result.exit_code == 0, result.output
    ours, theirs = (pixels(Image.open(tmp_path / name)) for name in ("studio-me-edited.png", "me-edited.png"))
    assert np.array_equal(ours, theirs)


@pytest.mark.usefixtures("colours")
def test_the_command_holds_what_the_studio_holds(
    face: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: tuple[str, ...]
) -> None:
    bright, red = face.bench.boundaries
    face.choose(face.read({"alphas": {bright: 1.5}, "holds": [red]}))
    assert face.state()["held"][red] != 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me.latent.safetensors").write_bytes(latent_file(face)[1])
    result = CliRunner().invoke(main, [*shlex.split(face.command())[1:], *tiny])
    assert result.exit_code == 0, result.output
    assert np.array_equal(pixels(face.picture()), pixels(Image.open("me-edited.png")))


# Sliders


def test_sliders_move_the_picture_and_undo_brings_it_back(face: Session) -> None:
    bright, _ = face.bench.boundaries
    plain = pixels(face.picture())
    assert np.array_equal(plain, pixels(face.plain()))
    face.choose(face.read({"alphas": {bright: 2}}))
    moved = pixels(face.picture())
    assert abs(moved - plain).mean() > 5
    face.undo()
    assert np.array_equal(pixels(face.picture()), plain)
    assert face.state()["can_redo"]
    face.redo()
    assert np.array_equal(pixels(face.picture()), moved)


def test_a_preview_chooses_nothing(face: Session) -> None:
    bright, _ = face.bench.boundaries
    look = face.read({"alphas": {bright: 2}})
    small = face.drawing.preview(look, 16)
    assert small.size == (16, 16)
    assert not face.history.can_undo
    face.choose(look)
    assert np.array_equal(pixels(small), pixels(face.picture(16)))


@pytest.mark.usefixtures("colours")
def test_holding_brings_the_score_back(face: Session) -> None:
    bright, red = face.bench.boundaries

    def redness(image: Image.Image) -> float:
        values = pixels(image)
        return float((values[..., 0] - values[..., 2]).mean() / 127.5)

    before = redness(face.picture())
    face.choose(face.read({"alphas": {bright: 1.5}}))
    drift = abs(redness(face.picture()) - before)
    face.choose(face.read({"alphas": {bright: 1.5}, "holds": [red]}))
    assert drift > 0.03
    assert abs(redness(face.picture()) - before) < 0.025
    # While a slider is dragged on, the counter-edit stays what it was.
    held = face.state()["held"][red]
    dragged = face.drawing.preview(face.read({"alphas": {bright: 2}, "holds": [red]}), 64)
    by_hand = face.drawing.preview(face.read({"alphas": {bright: 2, red: held}}), 64)
    assert abs(pixels(dragged) - pixels(by_hand)).max() <= 2


def test_what_nothing_measures_cannot_be_held(face: Session) -> None:
    with pytest.raises(FacelatentError, match="cannot be held"):
        face.read({"holds": [next(iter(face.bench.boundaries))]})


def test_a_hold_that_fails_leaves_the_look(face: Session, colours: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*given: object) -> None:
        raise FacelatentError("no face in the unedited picture")

    monkeypatch.setattr(drawing_module, "targeted", nobody)
    bright, red = face.bench.boundaries
    with pytest.raises(FacelatentError, match="no face"):
        face.choose(face.read({"alphas": {bright: 1}, "holds": [red]}))
    assert face.history.current == Look()
    face.picture()
    face.history.put(face.read({"holds": [red]}))
    face.history.undo()
    with pytest.raises(FacelatentError, match="no face"):
        face.redo()
    assert face.history.current == Look()


def test_a_style_draws_with_its_generator(face: Session, tiny_generator: MobileStyleGAN, tmp_path: Path) -> None:
    face.bench = with_style(face.bench, tmp_path)
    face.take(face.latent)
    file = face.bench.shelf.files["klimt"]
    with pytest.raises(FacelatentError, match="same name"):
        StyleShelf.read([file, tmp_path / "other" / "klimt.safetensors"], tiny_generator)
    plain = pixels(face.picture())
    face.choose(face.read({"style": "klimt"}))
    brighter = (pixels(face.picture()) - plain).mean()
    assert brighter > 10
    assert f"--style {file} -o" in face.command()
    for strength in (0.5, 0.25, 0.75, 0.6, 0.35, 0.0):  # more than drawings are kept ready for
        face.choose(face.read({"style": "klimt", "style_strength": strength}))
        assert (pixels(face.picture()) - plain).mean() == pytest.approx(strength * brighter, abs=0.15 * brighter)
        assert f"--style {file} --style-strength {strength:g} -o" in face.command()
    assert np.array_equal(pixels(face.picture()), plain)
    face.choose(face.read({"style": None, "style_strength": 0.5}))
    assert face.history.current == Look()


def test_sliders_are_arranged(bench: Workbench, tiny_generator: MobileStyleGAN) -> None:
    from facelatent.boundaries import shipped_boundaries

    one = next(iter(bench.boundaries.values()))
    every = replace(bench, boundaries=dict.fromkeys([*sorted(shipped_boundaries()), "hat.boundary.safetensors"], one))
    assert list(every.groups)[:2] == ["Yours", "Often used"]
    assert every.groups["Yours"] == ["hat.boundary.safetensors"]  # no shipped attribute was forgotten
    arranged = [name for names in every.groups.values() for name in names]
    assert sorted(arranged) == sorted(every.boundaries)
    few = replace(bench, boundaries=dict.fromkeys(("yaw", "smile"), one))
    assert few.groups == {"Often used": ["smile", "yaw"]}


# Files


def test_saved_pictures_say_what_they_are(bench: Workbench, studio: Studio, face: Session) -> None:
    bright, _ = bench.boundaries
    sample = studio.session(studio.open_sample(1))
    for session, kind in ((face, EDITED), (sample, GENERATED)):
        session.choose(session.read({"alphas": {bright: 2}}))
        assert kind == Image.open(io.BytesIO(clip_file(session, 4, 16)[1])).info["comment"].decode().split()[-1]
        assert f"digitalsourcetype/{kind}<".encode() in picture_file(session)[1]


def test_saved_files(face: Session, tiny_generator: MobileStyleGAN, tmp_path: Path) -> None:
    bright, _ = face.bench.boundaries
    with pytest.raises(FacelatentError, match="move a slider"):
        clip_file(face)
    face.choose(face.read({"alphas": {bright: 2}}))
    name, data = picture_file(face)
    assert name == "me-edited.png"
    assert np.array_equal(pixels(Image.open(io.BytesIO(data))), pixels(face.picture()))
    name, data = clip_file(face, frames=6, size=32)
    clip = Image.open(io.BytesIO(data))
    assert (name, clip.format, clip.n_frames, clip.size) == ("me.gif", "GIF", 6, (32, 32))
    name, data = latent_file(face)
    (tmp_path / name).write_bytes(data)
    assert torch.equal(Latent.load(tmp_path / "me.latent.safetensors").ws, face.latent.ws)
    with pytest.raises(FacelatentError, match="not made from a photo"):
        photo_file(face)


def test_the_whole_photo(easy_inversion: None, bench: Workbench, tmp_path: Path, monkeypatch) -> None:
    pasted = []
    monkeypatch.setattr(drawing_module, "paste_edit", lambda *given: pasted.append(given) or given_photo(given[0]))
    photo = tmp_path / "upload"
    photo.write_bytes(picture_bytes())
    session = Session(bench, "holiday.jpeg", photo)
    session.begin()
    session.refine()
    bright, _ = bench.boundaries
    session.choose(session.read({"alphas": {bright: 2}}))
    name, data = photo_file(session)
    assert name == "holiday-edited.jpg"
    assert Image.open(io.BytesIO(data)).size == (80, 60)
    ((_, latent, generator, edits),) = pasted
    assert latent is session.latent
    assert generator is bench.generator
    assert [one.alpha for one in edits] == [2.0]


def given_photo(image: Image.Image) -> object:
    return type("Pasted", (), {"image": image})


# From a photo to a latent


def test_a_photo_is_aligned_and_inverted_with_progress(easy_inversion: None, bench: Workbench, tmp_path: Path) -> None:
    photo = tmp_path / "0123abcd"
    photo.write_bytes(picture_bytes())
    session, seen = Session(bench, "me.jpg", photo), []
    session.begin()
    assert session.phase == "inverting"  # the tiny generator has no encoder
    assert session.before.size == (64, 64)
    with pytest.raises(FacelatentError, match="not inverted yet"):
        session.picture()
    session.refine(lambda *step: seen.append((*step, session.step)))
    assert [step[1] for step in seen] == list(range(STEPS + 1))
    assert all(step[:3] == step[3] and step[2] == STEPS for step in seen)
    assert session.phase == "ready"
    assert session.latent.quad == [[-0.5, -0.5], [-0.5, 59.5], [79.5, 59.5], [79.5, -0.5]]
    assert session.latent.method["aligned"] is False
    assert len(session.latent.photo_sha256) == 64
    assert session.state()["version"] == 1


def test_stopping_leaves_the_first_guess(easy_inversion: None, bench: Workbench, tmp_path: Path) -> None:
    photo = tmp_path / "me.jpg"
    photo.write_bytes(picture_bytes())
    session = Session(bench, "me.jpg", photo, source=str(photo))
    session.begin()
    guess = Latent(torch.zeros(1, 8, 512), bench.generator.name, bench.generator.fingerprint)
    session.take(guess)
    session.phase = "refining"
    session.refine(lambda what, done, total: session.stop() if done == 2 else None)
    assert (session.phase, session.latent) == ("ready", guess)
    assert "stopped" in session.state()["message"]
    assert session.step[1] == 2
    assert not latent_path(photo).exists()  # a guess is not what `edit` would find
    assert "me.latent.safetensors" in session.command()


def test_stopping_without_a_guess_leaves_nothing(easy_inversion: None, bench: Workbench, tmp_path: Path) -> None:
    photo = tmp_path / "me.jpg"
    photo.write_bytes(picture_bytes())
    session = Session(bench, "me.jpg", photo)
    session.begin()

    def interrupted(what: str, done: int, total: int) -> None:
        raise Stopped

    session.refine(interrupted)
    assert (session.phase, session.message) == ("failed", "stopped")


def test_a_latent_is_kept_beside_a_photo_of_the_users(easy_inversion: None, bench: Workbench, tmp_path: Path) -> None:
    photo = tmp_path / "me.jpg"
    photo.write_bytes(picture_bytes())
    first = Session(bench, "me.jpg", photo, source=str(photo))
    first.begin()
    first.refine()
    assert torch.equal(Latent.load(latent_path(photo)).ws, first.latent.ws)
    assert shlex.split(first.command())[2] == str(photo)
    assert not first.state()["needs_latent"]
    latent = replace(first.latent, ws=first.latent.ws + 1, method={"face": None, "aligned": False})
    latent.save(latent_path(photo))
    second = Session(bench, "me.jpg", photo, source=str(photo))
    second.begin()
    assert second.phase == "ready"
    assert torch.equal(second.latent.ws, latent.ws)


def test_a_latent_of_something_else_is_not_overwritten(easy_inversion: None, bench: Workbench, tmp_path: Path) -> None:
    photo = tmp_path / "me.jpg"
    photo.write_bytes(picture_bytes())
    latent_path(photo).write_bytes(b"precious")
    session = Session(bench, "me.jpg", photo, source=str(photo))
    session.begin()
    session.refine()
    assert latent_path(photo).read_bytes() == b"precious"
    assert session.phase == "ready"
    assert "was not kept" in session.message
    assert session.state()["needs_latent"]


@pytest.mark.parametrize("error", [FacelatentError("no face found in {photo}"), RuntimeError("out of memory")])
def test_errors_reach_the_page(
    easy_inversion: None,
    bench: Workbench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    photo = tmp_path / "0123abcd"
    photo.write_bytes(picture_bytes())

    def fail(*given: object, **named: object) -> None:
        raise type(error)(str(error).format(photo=photo))

    monkeypatch.setattr(session_module, "sure_faces", fail)
    session = Session(bench, "me.jpg", photo)
    session.begin()
    session.refine()
    assert session.phase == "failed"
    assert "me.jpg" in session.message
    assert "0123abcd" not in session.message


def test_a_latent_of_another_generator_is_refused(bench: Workbench) -> None:
    with pytest.raises(IncompatibleLatent):
        Session(bench, "me").take(Latent(torch.zeros(1, 8, 512), "other", "0" * 16))


# Photos with several faces


def two_faces(tmp_path: Path) -> Path:
    photo = tmp_path / "two.jpg"
    photo.write_bytes(picture_bytes(size=(160, 80)))
    return photo


def test_the_best_face_is_taken_and_another_can_be(easy_inversion: None, bench: Workbench, tmp_path: Path) -> None:
    photo = two_faces(tmp_path)
    sessions = [Session(bench, "two.jpg", photo, number=number) for number in (None, 1, 2)]
    for session in sessions:
        session.begin()
        session.refine()
        assert session.state()["in_photo"] == 2
        assert {picture.size for picture in session.in_photo} == {(128, 128)}
    assert [session.latent.quad[0][0] for session in sessions] == [-0.5, -0.5, 79.5]
    assert [session.latent.method["face"] for session in sessions] == [None, 1, 2]
    assert [session.state()["number"] for session in sessions] == [1, 1, 2]
    assert [latent_file(session)[0] for session in sessions] == [
        "two.latent.safetensors", "two.latent.safetensors", "two-face2.latent.safetensors",
    ]  # fmt: skip
    assert shlex.split(sessions[2].command())[2] == "two-face2.latent.safetensors"
    assert "--face" not in sessions[2].command()


def test_a_face_of_the_users_photo_is_kept_and_named(easy_inversion: None, bench: Workbench, tmp_path: Path) -> None:
    photo = two_faces(tmp_path)
    second = Session(bench, "two.jpg", photo, str(photo), 2)
    second.begin()
    second.refine()
    assert shlex.split(second.command())[2] == str(photo)
    assert "--face 2" in second.command()
    again, best = Session(bench, "two.jpg", photo, str(photo), 2), Session(bench, "two.jpg", photo, str(photo))
    again.begin()
    best.begin()
    assert (again.phase, best.phase) == ("ready", "inverting")  # the kept latent is of the second
    best.refine()
    assert best.state()["needs_latent"]


def test_what_is_hardly_a_face_is_not_offered(
    easy_inversion: None, bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = session_module.sure_faces
    for scores, offered in (((1.0, 0.1), 1), ((0.2, 0.1), 1), ((1.0, 0.4), 2)):

        def scored(image: Image.Image, source: str, scores: tuple[float, ...] = scores) -> list[object]:
            return [replace(face, score=score) for face, score in zip(faces(image, source), scores, strict=True)]

        monkeypatch.setattr(session_module, "sure_faces", scored)
        session = Session(bench, "two.jpg", two_faces(tmp_path))
        session.begin()
        assert session.state()["in_photo"] == offered


def test_a_face_that_is_too_small_leaves_the_others(
    easy_inversion: None, bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = session_module.sure_faces

    def first_is_small(image: Image.Image, source: str) -> list[object]:
        first, second = faces(image, source)
        return [replace(first, landmarks=first.landmarks / 10), second]

    monkeypatch.setattr(session_module, "sure_faces", first_is_small)
    photo = two_faces(tmp_path)
    first, second = Session(bench, "two.jpg", photo), Session(bench, "two.jpg", photo, number=2)
    first.begin()
    second.begin()
    assert (first.phase, second.phase) == ("failed", "inverting")
    assert "too small" in first.message
    assert first.state()["in_photo"] == 2


@pytest.mark.assets
def test_a_session_finds_what_the_command_finds(asset, mobile, tmp_path: Path) -> None:
    """Aligned once, inverted twice: the same latent as by `facelatent invert`."""
    photo = asset("astronaut")
    from facelatent.boundaries import load_boundary

    recipe = Recipe("encoder")
    session = Session(Workbench(mobile, {"smile": load_boundary("smile", mobile)}, recipe), "me.png", photo)
    session.begin()
    assert session.phase == "refining"
    guess = session.latent
    session.refine()
    expected = invert_photo(photo, mobile, recipe)
    for latent in (guess, session.latent):
        assert torch.equal(latent.ws, expected.ws)
        assert (latent.quad, latent.method, latent.photo_sha256) == (
            expected.quad,
            expected.method,
            expected.photo_sha256,
        )
    assert np.array_equal(pixels(session.plain(256)), pixels(draw(mobile, expected.ws, 256)[0]))


# Progress


def test_progress_is_told_step_by_step() -> None:
    seen = []
    with progress_bar("tuning", 2, lambda *step: seen.append(step)) as bar:
        bar.set_postfix(loss="1.0", refresh=False)
        bar.update()
        bar.total -= 1
        bar.update()
    assert seen == [("tuning", 0, 2), ("tuning", 1, 2), ("tuning", 2, 1)]


# The thread


def test_only_the_newest_of_waiting_requests_is_drawn() -> None:
    worker, begun, go, drawn = Worker(), threading.Event(), threading.Event(), []

    def draw_it(number: int):
        def work() -> int:
            begun.set()
            go.wait(60)
            drawn.append(number)
            return number

        return work

    first = worker.quick(draw_it(0), "face")
    assert begun.wait(60)
    others = [worker.quick(draw_it(number), "face") for number in (1, 2, 3)]
    elsewhere = worker.quick(draw_it(4), "another face")
    go.set()
    assert first.result(60) == 0
    for overtaken in others[:2]:
        with pytest.raises(Superseded):
            overtaken.result(60)
    assert others[2].result(60) == 3
    assert elsewhere.result(60) == 4
    assert drawn == [0, 3, 4]
    worker.close()


def test_pictures_are_drawn_while_something_slow_goes_on() -> None:
    worker, served = Worker(), []

    def slow() -> list[str]:
        until(lambda: len(served) == 2 or worker.serve())
        return [*served]

    running = worker.slow(slow)
    threads = {worker.quick(threading.get_ident).result(60) for _ in range(3)}
    for number in range(2):
        worker.quick(lambda number=number: served.append(str(number))).result(60)
    assert running.result(60) == ["0", "1"]
    assert len(threads) == 1
    worker.close()


def test_a_drag_does_not_wait_for_a_step_at_each_picture() -> None:
    worker, steps, end = Worker(patience=60), [], threading.Event()

    def slow() -> None:
        while not end.is_set():
            steps.append(len(steps))
            time.sleep(0.005)
            worker.serve()

    running = worker.slow(slow)
    until(lambda: len(steps) > 2)
    seen = [worker.quick(lambda: len(steps)).result(60) for _ in range(5)]
    assert len(set(seen)) == 1
    end.set()
    worker.close()  # which does not wait for the patience to end
    assert running.result(10) is None


def test_an_error_is_the_askers_and_the_thread_goes_on() -> None:
    worker = Worker()

    def fail() -> None:
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        worker.quick(fail).result(60)
    assert worker.quick(lambda: 7).result(60) == 7
    worker.close()
    assert worker.quick(lambda: 7).cancelled()


# The studio


@pytest.fixture
def studio(bench: Workbench, easy_inversion: None):
    opened = Studio(bench, most=3)
    yield opened
    opened.close()
    assert not opened.folder.exists()


def uploaded(studio: Studio, data: bytes, name: str) -> str:
    file = studio.new_file()
    file.write_bytes(data)
    return studio.open_upload(file, name)


def test_an_upload_is_inverted_in_the_background(studio: Studio) -> None:
    identifier = uploaded(studio, picture_bytes(), "../../me.jpg")
    session = studio.session(identifier)
    assert session.name == "me.jpg"
    until(lambda: session.phase == "ready")
    assert session.photo.parent == studio.folder
    studio.close_face(identifier).result(60)
    assert not list(studio.folder.iterdir())
    with pytest.raises(UnknownFace):
        studio.session(identifier)


def test_a_saved_latent_opens_again(studio: Studio, face: Session) -> None:
    name, data = latent_file(face)
    session = studio.session(uploaded(studio, data, name))
    assert session.phase == "ready"
    assert torch.equal(session.latent.ws, face.latent.ws)
    assert "me.latent.safetensors" in session.command()
    assert not list(studio.folder.iterdir())


def test_latents_that_are_none(studio: Studio, face: Session, tmp_path: Path) -> None:
    for ws in (face.latent.ws * float("nan"), face.latent.ws.expand(2, -1, -1), face.latent.ws[:0]):
        face.latent.with_ws(ws.contiguous()).save(tmp_path / "x.latent.safetensors")
        with pytest.raises(InvalidFile):
            uploaded(studio, (tmp_path / "x.latent.safetensors").read_bytes(), "x.latent.safetensors")
    assert not studio.sessions()
    assert not list(studio.folder.iterdir())


def test_a_sample_is_the_face_of_its_seed(studio: Studio, tiny: tuple[str, ...], tmp_path: Path) -> None:
    session = studio.session(studio.open_sample(7))
    result = CliRunner().invoke(main, ["sample", "--seed", "7", "--separate", "-o", str(tmp_path / "faces"), *tiny])
    assert result.exit_code == 0, result.output
    assert np.array_equal(pixels(session.plain()), pixels(Image.open(tmp_path / "faces/seed0007.png")))
    assert session.state()["command"].split()[2] == "seed0007.latent.safetensors"


def test_no_more_faces_than_there_is_room_for(studio: Studio) -> None:
    faces = [studio.open_sample(seed) for seed in range(3)]
    with pytest.raises(TooManyFaces, match="3 faces are open"):
        uploaded(studio, picture_bytes(), "me.jpg")
    assert not list(studio.folder.iterdir())
    studio.close_face(faces[0]).result(60)
    uploaded(studio, picture_bytes(), "me.jpg")


def test_files_of_the_command_line_are_the_users_own(studio: Studio, face: Session, tmp_path: Path) -> None:
    photo, latent = tmp_path / "a.jpg", tmp_path / "b.latent.safetensors"
    photo.write_bytes(picture_bytes())
    latent.write_bytes(latent_file(face)[1])
    first, second = (studio.session(studio.open_file(path)) for path in (photo, latent))
    assert shlex.split(second.command())[2] == str(latent)
    until(lambda: first.phase == "ready")
    for identifier in studio.sessions():
        studio.close_face(identifier).result(60)
    assert photo.exists()
    assert latent_path(photo).exists()
    with pytest.raises(UnreadableImage):
        studio.open_file(tmp_path / "none.jpg")


def test_other_faces_of_an_upload_share_its_file(studio: Studio) -> None:
    first = uploaded(studio, picture_bytes(size=(240, 80)), "three.jpg")
    until(lambda: studio.session(first).phase == "ready")
    second = studio.open_other(first, 2)
    assert studio.open_other(first, 2) == second
    assert studio.open_other(second, 1) == first
    for number in (0, 4):
        with pytest.raises(UnknownFace):
            studio.open_other(first, number)
    third = studio.open_other(second, 3)
    with pytest.raises(TooManyFaces):
        uploaded(studio, picture_bytes(), "me.jpg")
    for identifier in (first, second):
        studio.close_face(identifier).result(60)
        assert len(list(studio.folder.iterdir())) == 1
    until(lambda: studio.session(third).phase == "ready")
    assert photo_of_three(studio.session(third)) == "three-face3-edited.jpg"
    studio.close_face(third).result(60)
    assert not list(studio.folder.iterdir())


def photo_of_three(session: Session) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing_module, "paste_edit", lambda image, *given: given_photo(image))
        return photo_file(session)[0]


def test_an_odd_error_leaves_no_upload(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr("facelatent.studio.studio.open_image", fail)
    with pytest.raises(MemoryError):
        uploaded(studio, picture_bytes(), "me.jpg")
    assert not list(studio.folder.iterdir())


def test_room_is_not_oversold(studio: Studio) -> None:
    """All at once: each finds room before any has taken it, and three get in."""
    refused, started = [], threading.Barrier(8)

    def upload(number: int) -> None:
        started.wait(60)
        try:
            uploaded(studio, picture_bytes(), f"{number}.jpg")
        except TooManyFaces:
            refused.append(number)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(studio.sessions()), len(refused)) == (3, 5)
    assert len(list(studio.folder.iterdir())) == 3


def test_closing_ends_an_inversion(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(recipe, image, generator, progress=False, **others):
        with progress_bar("inverting", 10**9, progress) as bar:
            while True:
                time.sleep(0.005)
                bar.update()

    monkeypatch.setattr(session_module, "invert_with", endless)
    identifier = uploaded(studio, picture_bytes(), "me.jpg")
    session = studio.session(identifier)
    until(lambda: session.step[1] > 2)
    assert studio.session(studio.worker.quick(lambda: studio.open_sample(1)).result(60)).plain(16)
    studio.close_face(identifier).result(60)
    until(lambda: session.phase == "failed")
    uploaded(studio, picture_bytes(), "again.jpg")
    began = time.monotonic()
    studio.close()
    assert time.monotonic() - began < 9  # it does not wait for the thread in vain


def test_a_face_that_is_closed_at_once_is_not_inverted(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    inverted, go = [], threading.Event()
    monkeypatch.setattr(Session, "refine", lambda self, between=None: inverted.append(self.name))
    studio.worker.quick(lambda: go.wait(60))
    first, second = uploaded(studio, picture_bytes(), "first.jpg"), uploaded(studio, picture_bytes(), "second.jpg")
    closing = studio.close_face(first)
    go.set()
    closing.result(60)
    until(lambda: inverted)
    assert inverted == ["second.jpg"]
    assert studio.session(second).phase == "inverting"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("me.jpg", "me.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\face.png", "face.png"),
        ("..", "photo.jpg"),
        ("/", "photo.jpg"),
        ("", "photo.jpg"),
        ("a\x00b\n\x1b[31m.png", "ab[31m.png"),
        ("été ☀.jpg", "été ☀.jpg"),
        ("x" * 500 + ".latent.safetensors", "x" * 60 + ".safetensors"),
    ],
)
def test_names_that_are_shown(given: str, shown: str) -> None:
    assert shown_name(given) == shown


# The command


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> list[Serving]:
    """What was about to be served: nothing waits for Ctrl-C."""
    seen: list[Serving] = []
    monkeypatch.setattr(Serving, "run", lambda self: (seen.append(self), self.socket.close()))
    return seen


def test_studio_opens_the_page(running: list[Serving], tiny: tuple[str, ...], grin: Path, monkeypatch) -> None:
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    result = CliRunner().invoke(main, ["studio", "--boundary", str(grin), *tiny])
    assert result.exit_code == 0, result.output
    assert opened == [running[0].url]
    assert running[0].url in result.output
    assert running[0].url.startswith("http://127.0.0.1:")
    assert len(running[0].url.split("/")[3]) >= 32
    CliRunner().invoke(main, ["studio", "--boundary", str(grin), "--no-open", *tiny])
    assert len(opened) == 1
    assert running[1].url.split("/")[3] != running[0].url.split("/")[3]


def test_studio_opens_files_and_says_which_it_cannot(
    running: list[Serving], tiny: tuple[str, ...], grin: Path, face: Session, tmp_path: Path
) -> None:
    arguments = ("studio", "--no-open", "--boundary", str(grin), *tiny)
    (tmp_path / "me.latent.safetensors").write_bytes(latent_file(face)[1])
    result = CliRunner().invoke(main, [*arguments, str(tmp_path / "me.latent.safetensors")])
    assert result.exit_code == 0, result.output
    (tmp_path / "me.txt").write_text("no photo")
    result = CliRunner().invoke(main, [*arguments, str(tmp_path / "me.txt")])
    assert result.exit_code == 1
    assert "me.txt is not an image" in result.output
    assert len(running) == 1


def test_studio_without_a_boundary_for_the_generator(tiny: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["studio", "--no-open", *tiny])
    assert result.exit_code == 1
    assert "pass your own with --boundary" in result.output


def test_studio_on_a_port_that_is_taken(tiny: tuple[str, ...], grin: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        result = CliRunner().invoke(main, ["studio", "--no-open", "--boundary", str(grin), "--port", port, *tiny])
    assert result.exit_code == 1
    assert f"port {port} cannot be used" in result.output


def test_studio_without_its_extra(tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "facelatent.studio.serving", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(main, ["studio", *tiny])
    assert result.exit_code == 1
    assert "pip install 'facelatent[studio]'" in result.output


def test_studio_ends_quietly(tiny: tuple[str, ...], grin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(serving: Serving) -> None:
        serving.socket.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(Serving, "run", interrupted)
    result = CliRunner().invoke(main, ["studio", "--no-open", "--boundary", str(grin), *tiny])
    assert result.exit_code == 0, result.output
    assert "Aborted" not in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_uploads_are_removed_however_it_ends(
    tiny: tuple[str, ...], grin: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made: list[Studio] = []
    make = Studio.__init__
    monkeypatch.setattr(Studio, "__init__", lambda self, *given: (make(self, *given), made.append(self))[0])

    def ended(serving: Serving) -> None:
        serving.socket.close()
        made[0].new_file().write_bytes(b"a face")
        signal.raise_signal(signal.Signals[name])

    monkeypatch.setattr(Serving, "run", ended)
    before = signal.getsignal(signal.Signals[name])
    result = CliRunner().invoke(main, ["studio", "--no-open", "--boundary", str(grin), *tiny])
    assert result.exit_code == 0, result.output
    assert not made[0].folder.exists()
    assert signal.getsignal(signal.Signals[name]) is before
