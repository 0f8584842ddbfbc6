"""Training a classifier of CelebA's forty attributes, or of any folder laid out like CelebA.

Liu et al., "Deep Learning Face Attributes in the Wild", 2015. The pictures are for non-commercial research.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from facelatent.boundaries.scorers.celeba import AttributeClassifier, AttributeNet
from facelatent.errors import InvalidFile
from facelatent.files import atomic_path, load_tensors, save_tensors
from facelatent.images import open_image

#: CelebA's own aligned pictures, and the square in them that lies as FFHQ's crop does: the eyes 4 eye distances wide.
_SIZE = (178, 218)
_SQUARE = (11, 37, 167, 193)
#: Numbers of the splits in ``list_eval_partition.txt``.
_SPLITS = {"train": 0, "valid": 1, "test": 2}
#: Rare attributes weigh more in the loss, by the root of how rare they are, up to this.
_MOST_WEIGHT = 5.0
#: How many pixels, as a share of the side, pictures are moved and scaled while training.
_SHIFT, _ZOOM = 0.06, 0.08

Report = Callable[[str], None]


@dataclass(frozen=True)
class ClassifierSettings:
    """How a classifier is trained.

    Attributes:
        epochs: how often every picture is seen.
        batch: pictures a step.
        rate: highest learning rate (AdamW, warmed up over a twentieth of the steps, then a cosine to zero).
        width: channels of the first stage.
        side: of the network's input in pixels.
        seed: of weights, order and augmentation.
        workers: processes that read pictures.
    """

    epochs: int = 8
    batch: int = 128
    rate: float = 2e-3
    width: int = 32
    side: int = 112
    seed: int = 0
    workers: int = 0


@dataclass(frozen=True)
class AttributeTable:
    """A folder of CelebA's layout, read.

    Attributes:
        attributes: names.
        pictures: path of each picture.
        labels: [n, attributes] bool.
        splits: [n] 0 train, 1 validation, 2 test.
    """

    attributes: tuple[str, ...]
    pictures: list[Path]
    labels: np.ndarray
    splits: np.ndarray

    def rows(self, split: str) -> np.ndarray:
        """Indices of the pictures of ``train``, ``valid`` or ``test``."""
        return np.flatnonzero(self.splits == _SPLITS[split])


def read_celeba(folder: Path) -> AttributeTable:
    """Read ``list_attr_celeba.txt`` and ``list_eval_partition.txt`` (or ``.csv``, as Kaggle has them) of a folder.

    Raises:
        InvalidFile: one of them or ``img_align_celeba`` is missing or damaged, pictures are missing, or the training or
            validation split is empty.
    """
    names, labels = _read_attributes(_listing(folder, "list_attr_celeba"))
    splits = _read_partition(_listing(folder, "list_eval_partition"))
    images = folder / "img_align_celeba"
    if (images / "img_align_celeba").is_dir():  # Kaggle's archive has it twice
        images = images / "img_align_celeba"
    if not images.is_dir():
        raise InvalidFile(f"{folder} has no folder img_align_celeba; unpack img_align_celeba.zip there")
    present = {path.name for path in images.iterdir()}
    if missing := [name for name in labels if name not in present]:
        raise InvalidFile(
            f"{images} lacks {len(missing)} of {len(labels)} pictures (first: {missing[0]}); unpack the archive again"
        )
    if unassigned := [name for name in labels if name not in splits]:
        raise InvalidFile(f"list_eval_partition in {folder} lacks {len(unassigned)} pictures (first: {unassigned[0]})")
    table = AttributeTable(
        names,
        [images / name for name in labels],
        np.array(list(labels.values())),
        np.array([splits[name] for name in labels]),
    )
    for split in ("train", "valid"):
        if not len(table.rows(split)):
            raise InvalidFile(f"list_eval_partition in {folder} puts no picture into the {split} split")
    return table


def train_classifier(
    folder: Path,
    out: Path,
    settings: ClassifierSettings | None = None,
    device: str | torch.device = "cpu",
    report: Report | None = None,
) -> AttributeClassifier:
    """Train on a folder of CelebA's layout and write the classifier; taken up again where it was stopped.

    After each epoch the state is kept in ``OUT.partial.safetensors`` and a line is added to ``OUT.log.jsonl``. Pictures
    of 178 x 218 px are cut to the square that matches FFHQ's crop, others to their middle square.

    Args:
        folder: see :func:`read_celeba`.
        out: ``.safetensors`` to write.
        settings: how to train.
        device: where to train.
        report: called with one line an epoch.

    Returns:
        The classifier, whose report has accuracies by attribute on the validation and the test split.

    Raises:
        InvalidFile: the folder is not of that layout, or the partial state belongs to other settings.
        UnreadableImage: a picture is damaged.
    """
    chosen = settings or ClassifierSettings()
    table = read_celeba(folder)
    partial, log = _beside(out, ".partial.safetensors"), _beside(out, ".log.jsonl")
    state = _State(table, chosen, torch.device(device), partial, log)
    for epoch in range(state.epoch, chosen.epochs):
        line = {"epoch": epoch + 1, "loss": state.train_epoch(epoch), **_mean(state.accuracies("valid"))}
        state.save(epoch + 1, line)
        if report:
            report(f"epoch {epoch + 1}/{chosen.epochs}: " + ", ".join(f"{k} {v:.4f}" for k, v in line.items()))
    classifier = state.classifier()
    classifier.save(out)
    state.partial.unlink(missing_ok=True)
    return classifier


class _State:
    """A run: the network, its optimiser, and where they are kept between epochs."""

    def __init__(
        self, table: AttributeTable, settings: ClassifierSettings, device: torch.device, partial: Path, log: Path
    ) -> None:
        self.table, self.settings, self.device = table, settings, device
        self.partial, self.log = partial, log
        torch.manual_seed(settings.seed)
        self.network = AttributeNet(len(table.attributes), settings.width).to(device)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), settings.rate, weight_decay=0.05)
        share = table.labels[table.rows("train")].mean(0).clip(1e-4, 1 - 1e-4)
        self.weights = torch.from_numpy(np.sqrt((1 - share) / share).clip(1 / _MOST_WEIGHT, _MOST_WEIGHT)).float()
        self.epoch = 0
        self.key = {
            **{name: value for name, value in asdict(settings).items() if name != "workers"},
            "attributes": list(table.attributes),
            "pictures": len(table.pictures),
        }
        if partial.exists():
            self._resume()
        else:
            log.unlink(missing_ok=True)

    def train_epoch(self, epoch: int) -> float:
        """One pass over the training split; the mean loss."""
        settings, rows = self.settings, self.table.rows("train")
        random = torch.Generator().manual_seed((settings.seed << 16) + epoch)
        steps = -(-len(rows) // settings.batch)
        losses = []
        self.network.train()
        torch.manual_seed((settings.seed << 16) + epoch)  # of dropout, so that a resumed run equals an unbroken one
        order = rows[torch.randperm(len(rows), generator=random).numpy()]
        for step, (images, labels) in enumerate(self._batches(order)):
            rate = settings.rate * _schedule(epoch * steps + step, settings.epochs * steps)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            logits = self.network(augmented(images.to(self.device), random))
            loss = F.binary_cross_entropy_with_logits(
                logits, labels.to(self.device), pos_weight=self.weights.to(self.device)
            )
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            losses.append(float(loss.detach()) * len(images))
        return sum(losses) / len(rows)

    @torch.no_grad()
    def accuracies(self, split: str) -> dict[str, dict[str, float]]:
        """By attribute: accuracy, the mean of both classes' (balanced), and the larger class's share."""
        rows = self.table.rows(split)
        self.network.eval()
        shift = self.weights.log()
        batches = (images.to(self.device).float() / 127.5 - 1 for images, _ in self._batches(rows))
        parts = [self.network(images).cpu() - shift for images in batches]
        right, truth = (torch.cat(parts) > 0).numpy(), self.table.labels[rows]
        return {name: _rates(right[:, column], truth[:, column]) for column, name in enumerate(self.table.attributes)}

    def classifier(self) -> AttributeClassifier:
        """What was trained, with its measurements."""
        report: dict[str, Any] = {"settings": asdict(self.settings), "pictures": len(self.table.pictures)}
        for split in ("valid", "test"):
            if len(self.table.rows(split)):
                report[split] = self.accuracies(split)
        network = AttributeNet(len(self.table.attributes), self.settings.width)
        network.load_state_dict({name: value.cpu() for name, value in self.network.state_dict().items()})
        # A weight w on the positives multiplies the odds that are learnt by w: taken back, they are probabilities.
        network.head.bias.data -= self.weights.log()
        network.eval().requires_grad_(False)
        return AttributeClassifier(network, self.table.attributes, self.settings.side, report)

    def save(self, epoch: int, line: dict[str, float]) -> None:
        """Keep the run after ``epoch`` epochs, and log a line."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
        save_tensors(self.partial, tensors, {"kind": "classifier-training", "epoch": epoch, "key": self.key})
        earlier = self.log.read_text() if self.log.exists() else ""
        with atomic_path(self.log) as temporary:
            temporary.write_text(earlier + json.dumps(line) + "\n")

    def _resume(self) -> None:
        tensors, metadata = load_tensors(self.partial)
        if metadata.get("key") != self.key:
            raise InvalidFile(
                f"{self.partial} was left by a run with other settings or pictures; delete it, or use those settings"
            )
        self.epoch = metadata["epoch"]
        moments: dict[int, dict[str, Tensor]] = {}
        network = {}
        for key, value in tensors.items():
            kind, rest = key.split(".", 1)
            if kind == "network":
                network[rest] = value
            else:
                index, name = rest.split(".", 1)
                moments.setdefault(int(index), {})[name] = value
        self.network.load_state_dict(network)
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})

    def _batches(self, rows: np.ndarray) -> DataLoader[tuple[Tensor, Tensor]]:
        pictures = _Pictures(self.table, rows, self.settings.side)
        return DataLoader(pictures, self.settings.batch, num_workers=self.settings.workers)


class _Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Pictures uint8 [3, side, side] and labels float32 [attributes] of some rows of a table."""

    def __init__(self, table: AttributeTable, rows: np.ndarray, side: int) -> None:
        self.table, self.rows, self.side = table, rows, side

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = self.rows[index]
        pixels = np.array(squared(open_image(self.table.pictures[row]), self.side))
        return torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(self.table.labels[row]).float()


def squared(image: Image.Image, side: int) -> Image.Image:
    """The face's square in a CelebA picture, or the middle square of another, at ``side`` px."""
    least = min(image.size)
    left, top = (image.width - least) // 2, (image.height - least) // 2
    box = _SQUARE if image.size == _SIZE else (left, top, left + least, top + least)
    return image.crop(box).resize((side, side), Image.Resampling.BILINEAR)


def augmented(images: Tensor, random: torch.Generator) -> Tensor:
    """Mirrored, moved, scaled, brightened and tinted at random: uint8 [n, 3, s, s] -> float [n, 3, s, s] in [-1, 1]."""
    count = len(images)

    def uniform(*shape: int) -> Tensor:
        return (2 * torch.rand(*shape, generator=random) - 1).to(images.device)

    places = torch.zeros(count, 2, 3, device=images.device)
    zoom = 1 + _ZOOM * uniform(count)
    places[:, 0, 0], places[:, 1, 1] = zoom * uniform(count).sign(), zoom
    places[:, :, 2] = 2 * _SHIFT * uniform(count, 2)
    grid = F.affine_grid(places, [count, 3, *images.shape[-2:]], align_corners=False)
    moved = F.grid_sample(images.float() / 127.5 - 1, grid, padding_mode="border", align_corners=False)
    return (
        moved * (1 + 0.15 * uniform(count, 1, 1, 1)) + 0.15 * uniform(count, 1, 1, 1) + 0.05 * uniform(count, 3, 1, 1)
    )


def _schedule(step: int, steps: int) -> float:
    warm = max(steps // 20, 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(steps - warm, 1))


def _rates(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    classes = [float((found[truth == kind] == kind).mean()) for kind in (True, False) if (truth == kind).any()]
    return {
        "accuracy": float((found == truth).mean()),
        "balanced": sum(classes) / len(classes),
        "larger_class": float(max(truth.mean(), 1 - truth.mean())),
    }


def _mean(accuracies: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        name: sum(rates[name] for rates in accuracies.values()) / len(accuracies) for name in ("accuracy", "balanced")
    }


def _listing(folder: Path, name: str) -> Path:
    for suffix in (".txt", ".csv"):
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    raise InvalidFile(
        f"{folder} has no {name}.txt; a folder of CelebA's layout holds img_align_celeba/, list_attr_celeba.txt and "
        "list_eval_partition.txt"
    )


def _words(path: Path) -> list[tuple[int, list[str]]]:
    """Numbers and words of the lines that are not empty; commas of .csv files part words too."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path} cannot be read ({error})") from error
    split = [(number, re.split(r"[,\s]+", line.strip())) for number, line in enumerate(lines, 1)]
    return [(number, words) for number, words in split if words != [""]]


def _read_attributes(path: Path) -> tuple[tuple[str, ...], dict[str, list[bool]]]:
    """Names of attributes, and which of them each picture has."""
    lines = _words(path)
    if lines and len(lines[0][1]) == 1 and lines[0][1][0].isdigit():  # CelebA's first line counts the pictures
        lines = lines[1:]
    if len(lines) < 2:
        raise InvalidFile(f"{path} holds no labels")
    names = lines[0][1][1:] if lines[0][1][0] == "image_id" else lines[0][1]
    labels = {}
    for number, (picture, *values) in lines[1:]:
        if len(values) != len(names) or not set(values) <= {"1", "-1", "0"}:
            raise InvalidFile(f"{path}, line {number}: {len(names)} values of 1 or -1 are expected after {picture!r}")
        labels[picture] = [value == "1" for value in values]
    return tuple(names), labels


def _read_partition(path: Path) -> dict[str, int]:
    """Which split each picture belongs to."""
    splits = {}
    for number, words in _words(path):
        if words[0] == "image_id":
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise InvalidFile(f"{path}, line {number}: a picture and 0, 1 or 2 are expected, not {' '.join(words)!r}")
        splits[words[0]] = int(words[1])
    return splits


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.name.removesuffix(".safetensors") + suffix)
