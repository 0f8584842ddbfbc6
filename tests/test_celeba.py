"""Training an attribute classifier on a folder laid out like CelebA, made of tiny pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from facelatent.boundaries import celeba_training, find_scorers
from facelatent.boundaries.celeba_training import ClassifierSettings, read_celeba, squared, train_classifier
from facelatent.boundaries.scorers import CelebaScorer
from facelatent.boundaries.scorers.celeba import AttributeClassifier
from facelatent.cli import main
from facelatent.errors import InvalidFile
from facelatent.faces import Face

SETTINGS = ClassifierSettings(epochs=6, batch=16, width=4, side=32, rate=1e-2)


def make_folder(folder: Path, count: int = 96, size: tuple[int, int] = (44, 54)) -> Path:
    """Bright or dark, red or blue pictures; the first attribute is brightness, the second redness."""
    random = np.random.default_rng(0)
    (folder / "img_align_celeba").mkdir(parents=True)
    labels, partition = [], []
    for number in range(count):
        bright, red = random.random() < 0.5, random.random() < 0.25
        pixels = random.normal(170 if bright else 80, 20, (*size[::-1], 3))
        pixels[..., 0 if red else 2] += 50
        name = f"{number + 1:06d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "img_align_celeba" / name)
        labels.append(f"{name} {' 1' if bright else '-1'} {' 1' if red else '-1'}")
        partition.append(f"{name} {0 if number < 64 else 1 + number % 2}")
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(count), "Bright Red ", *labels]) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("celeba"))


def test_what_is_read(folder: Path) -> None:
    table = read_celeba(folder)
    assert table.attributes == ("Bright", "Red")
    assert [len(table.rows(split)) for split in ("train", "valid", "test")] == [64, 16, 16]
    assert table.labels.shape == (96, 2)
    pixels = np.asarray(Image.open(table.pictures[5]), float)
    assert table.labels[5, 0] == (pixels[..., 1].mean() > 125)


def test_training_learns_and_scores(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    out = tmp_path / "celeba.safetensors"
    trained = train_classifier(folder, out, SETTINGS, report=lines.append)
    assert [line.split(":")[0] for line in lines] == [f"epoch {k}/6" for k in range(1, 7)]
    log = [json.loads(line) for line in (tmp_path / "celeba.log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    assert not (tmp_path / "celeba.partial.safetensors").exists()
    for split in ("valid", "test"):
        assert set(trained.report[split]) == {"Bright", "Red"}
        assert trained.report[split]["Bright"]["accuracy"] >= 0.8
    (scorer,) = find_scorers([out])
    assert scorer.attributes == ("Bright", "Red")
    images = torch.full((3, 3, 64, 64), 0.0)
    images[0], images[1] = 0.45, -0.45
    images[:2, 2] += 0.4
    face = Face((0, 0, 64, 64), 1.0, np.random.default_rng(0).uniform(28, 36, (68, 2)))
    scores = scorer.score(images, [face, face, None])
    assert scores["Bright"][0] > 0.5 > scores["Bright"][1]
    assert np.isnan(scores["Bright"][2])


def test_probabilities_are_those_of_the_unweighted_odds(folder: Path, tmp_path: Path) -> None:
    """What the loss's weights add to the odds is taken back: mean probabilities are near the attributes' shares."""
    trained = train_classifier(folder, tmp_path / "out.safetensors", SETTINGS)
    table = read_celeba(folder)
    images = torch.stack([celeba_training._Pictures(table, table.rows("train"), 32)[k][0] for k in range(64)])
    found = trained.network(images.float() / 127.5 - 1).sigmoid().mean(0).numpy()
    assert found == pytest.approx(table.labels[table.rows("train")].mean(0), abs=0.15)


def test_resumed_training_equals_an_unbroken_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ClassifierSettings(epochs=3, batch=16, width=4, side=32)
    whole = train_classifier(folder, tmp_path / "whole.safetensors", settings)
    once = celeba_training._State.train_epoch

    def killed(state: celeba_training._State, epoch: int) -> float:
        if epoch == 2:
            raise KeyboardInterrupt
        return once(state, epoch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(celeba_training._State, "train_epoch", killed)
        train_classifier(folder, tmp_path / "halves.safetensors", settings)
    lines: list[str] = []
    halves = train_classifier(folder, tmp_path / "halves.safetensors", settings, report=lines.append)
    assert len(lines) == 1
    for name, value in whole.network.state_dict().items():
        assert torch.allclose(halves.network.state_dict()[name].float(), value.float(), atol=1e-6), name
    assert len((tmp_path / "halves.log.jsonl").read_text().splitlines()) == 3


def test_partial_state_of_other_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    state = celeba_training._State(
        read_celeba(folder), SETTINGS, torch.device("cpu"), tmp_path / "a.partial.safetensors", tmp_path / "a.log.jsonl"
    )
    state.save(1, {"loss": 1.0})
    with pytest.raises(InvalidFile, match="left by a run with other settings"):
        train_classifier(folder, tmp_path / "a.safetensors", ClassifierSettings(width=8, side=32))


def test_kaggles_layout(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "celeba", 12)
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
    table = ["image_id,Bright,Red", *[",".join(line.split()) for line in lines[2:]]]
    (folder / "list_attr_celeba.csv").write_text("\n".join(table))
    (folder / "list_attr_celeba.txt").unlink()
    partition = [f"{line.split()[0]},{0 if k < 8 else 1}" for k, line in enumerate(lines[2:])]
    (folder / "list_eval_partition.csv").write_text("\n".join(["image_id,partition", *partition]))
    (folder / "list_eval_partition.txt").unlink()
    (folder / "img_align_celeba").rename(folder / "inner")
    (folder / "img_align_celeba").mkdir()
    (folder / "inner").rename(folder / "img_align_celeba" / "img_align_celeba")
    assert read_celeba(folder).attributes == ("Bright", "Red")
    assert len(read_celeba(folder).rows("valid")) == 4


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("rm list_attr_celeba.txt", r"has no list_attr_celeba\.txt; a folder of CelebA's layout holds"),
        ("rm list_eval_partition.txt", r"has no list_eval_partition\.txt"),
        ("rm img_align_celeba/000003.png", r"lacks 1 of 12 pictures \(first: 000003\.png\)"),
        ("list_attr_celeba.txt 2\nA B\n000001.png 1\n", "line 3: 2 values of 1 or -1 are expected"),
        ("list_attr_celeba.txt 0\n", "holds no labels"),
        ("list_eval_partition.txt 000001.png 7\n", "line 1: a picture and 0, 1 or 2 are expected"),
        ("list_eval_partition.txt 000001.png 0\n", r"lacks 11 pictures \(first: 000002\.png\)"),
    ],
)
def test_folders_that_are_none(tmp_path: Path, damage: str, message: str) -> None:
    folder = make_folder(tmp_path / "celeba", 12)
    name, _, text = damage.partition(" ")
    if name == "rm":
        (folder / text).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(InvalidFile, match=message):
        read_celeba(folder)


def test_no_training_pictures(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "celeba", 4)
    (folder / "list_eval_partition.txt").write_text("".join(f"{k:06d}.png 1\n" for k in range(1, 5)))
    with pytest.raises(InvalidFile, match="no picture into the train split"):
        read_celeba(folder)


def test_the_square_of_a_picture() -> None:
    """CelebA's own size is cut where FFHQ's crop lies; others in the middle."""
    celeba = Image.new("RGB", (178, 218))
    celeba.paste("white", (11, 37, 167, 193))
    assert np.asarray(squared(celeba, 39)).min() == 255
    wide = Image.new("RGB", (100, 40))
    wide.paste("white", (30, 0, 70, 40))
    assert np.asarray(squared(wide, 20)).min() == 255


def test_classifiers_that_are_none(tmp_path: Path, grin: Path) -> None:
    with pytest.raises(InvalidFile, match="of kind 'boundary', not an attribute-classifier"):
        CelebaScorer.load(grin)
    with pytest.raises(InvalidFile):
        AttributeClassifier.load(tmp_path / "missing.safetensors")


def test_command(folder: Path, tmp_path: Path) -> None:
    small = ["--epochs", "1", "--batch", "32", "--width", "4", "--side", "64", "--workers", "0", "--device", "cpu"]
    out = tmp_path / "net.safetensors"
    command = ["attributes", "train-classifier", "--celeba", str(folder), "-o", str(out), *small]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "Bright" in done.output and "(test)" in done.output
    assert AttributeClassifier.load(out).attributes == ("Bright", "Red")
    assert "attributes:  Bright, Red\n" in CliRunner().invoke(main, ["inspect", str(out)]).output
    wrong = CliRunner().invoke(main, [*command[:5], str(tmp_path / "net.pt"), *small])
    assert wrong.exit_code == 2
    missing = CliRunner().invoke(main, ["attributes", "train-classifier", "--celeba", str(tmp_path), "-o", str(out)])
    assert missing.exit_code == 1
    assert "has no list_attr_celeba.txt" in missing.output
