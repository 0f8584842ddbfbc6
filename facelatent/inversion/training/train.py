"""The whole training of an encoder: pairs, a linear map, looks, and a descent through the generator."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from facelatent.errors import InvalidFile
from facelatent.files import load_tensors, save_tensors
from facelatent.inversion.encoders import CompactEncoder, Home
from facelatent.inversion.encoders.compact import DESCRIPTION
from facelatent.inversion.training.looks import FACES as LOOKED_AT
from facelatent.inversion.training.looks import learn_looks
from facelatent.inversion.training.looks import ticks as look_ticks
from facelatent.inversion.training.pairs import SHARD, Pairs
from facelatent.inversion.training.processes import Processes
from facelatent.inversion.training.refine import Refinement
from facelatent.inversion.training.regression import explained, fit
from facelatent.inversion.training.regression import ticks as fit_ticks
from facelatent.inversion.training.settings import EncoderTraining
from facelatent.inversion.training.validation import Validation
from facelatent.stylegan_ops import Generator

#: The log in the working folder, one JSON object a line.
LOG = "log.jsonl"


def train_encoder(
    generator: Generator,
    out: Path,
    work: Path,
    settings: EncoderTraining,
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Train a :class:`CompactEncoder` for ``generator`` and write it to ``out``.

    Everything that took time is kept in ``work``; a run that was stopped goes on from there with the same settings. The
    folder also gets ``log.jsonl`` and a sheet of faces after each stage, and can be deleted afterwards.

    Under torchrun the processes share the drawing and the descent; ``work`` has to be a folder that all of them see.

    Args:
        generator: that the codes are for; frozen here.
        out: the encoder's file.
        work: the working folder.
        settings: how.
        progress: show progress bars.
        say: gets a line after each stage.

    Raises:
        InvalidFile: ``work`` holds something damaged, or made with other settings.
        FacelatentError: the descent diverges.
        AssetUnavailable: VGG16's or dlib's weights cannot be fetched.
        UnwritableOutput: a file cannot be written.
    """
    training = _Training(generator.requires_grad_(False), out, work, settings, progress, say)
    encoder = training.fitted()
    if settings.steps:
        training.refine(encoder)
    training.finish(encoder)


class _Training:
    def __init__(
        self,
        generator: Generator,
        out: Path,
        work: Path,
        settings: EncoderTraining,
        progress: bool,
        say: Callable[[str], None],
    ) -> None:
        self.generator, self.out, self.work, self.settings = generator, out, work, settings
        self.processes = Processes()
        self.say = say if self.processes.first else lambda line: None
        self.silent = not progress or not self.processes.first
        self.pairs = Pairs(generator, work, settings.pairs, settings.damaged, settings.seed)
        self.validation = Validation(generator)
        # There is no more to a map than its outputs.
        self.rank = min(settings.rank, generator.num_ws * min(settings.components, generator.w_dim))
        self.measured: list[dict[str, float]] = []
        self.began = time.monotonic()

    def fitted(self) -> CompactEncoder:
        """An encoder whose map is fitted to the pairs, and whose looks are measured."""
        mine = range(self.processes.rank, self.pairs.shards, self.processes.count)
        for shard in tqdm(mine, desc="drawing faces", unit="shard", disable=self.silent):
            self.pairs.descriptions(shard)
        self.processes.wait()
        path = self.work / "fit.safetensors"
        if self.processes.first and not path.exists():
            encoder = self._empty()
            self._fit(encoder)
            save_tensors(path, encoder.state_dict(), self._record())
        self.processes.wait()
        encoder = self._empty()
        tensors, kept = load_tensors(path)
        if kept != self._record():
            raise InvalidFile(f"{path} was made with other settings; use another --work folder, or delete this one")
        encoder.load_state_dict(tensors)
        self._measure(encoder, {"stage": "fit"})
        return encoder

    def refine(self, encoder: CompactEncoder) -> None:
        """Descend through the generator, from the last checkpoint if there is one."""
        refinement = Refinement(encoder, self.generator, self.settings, self.processes)
        path = self.work / "descent.pt"
        if path.exists():
            refinement.load(path)
        losses: list[float] = []
        with tqdm(
            total=self.settings.steps,
            initial=refinement.step,
            desc="descending",
            unit="step",
            disable=self.silent,
        ) as bar:

            def tick(loss: float) -> None:
                losses.append(loss)
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                bar.update()

            while True:
                refinement.run(min(refinement.step + self.settings.save_every, self.settings.steps), tick)
                if losses and self.processes.first:
                    refinement.save(path)
                mean = sum(losses) / len(losses) if losses else None
                self._measure(encoder, {"stage": "descent", "step": refinement.step, "loss": mean})
                losses.clear()
                if refinement.step >= self.settings.steps:
                    break
        encoder.requires_grad_(False)

    def finish(self, encoder: CompactEncoder) -> None:
        """Write the encoder."""
        if self.processes.first:
            encoder.save(self.out, {"settings": asdict(self.settings), "measured": self.measured})
            self.say(f"wrote {self.out}")
        self.processes.wait()

    def _empty(self) -> CompactEncoder:
        generator, settings = self.generator, self.settings
        basis = generator.w_components[: settings.components] * generator.w_scales[: settings.components, None]
        name, home = f"compact-{generator.name}", Home.of(generator)
        encoder = CompactEncoder(name, home, generator.w_avg.clone(), basis, self.rank, settings.looks)
        return encoder.requires_grad_(False).to(generator.device)

    def _fit(self, encoder: CompactEncoder) -> None:
        true = torch.cat([encoder.coordinates(self.pairs.ws(shard)) for shard in range(self.pairs.shards)])
        inputs = torch.cat([self.pairs.descriptions(shard) for shard in range(self.pairs.shards)])
        weights = encoder.basis.norm(dim=1).repeat(encoder.num_ws)
        with tqdm(total=fit_ticks(DESCRIPTION), desc="fitting", unit="part", disable=self.silent) as bar:
            result = fit(inputs, true, weights, self.settings.ridge, self.rank, bar.update)
        encoder.map.load_state_dict({"0.weight": result.map.down, "1.weight": result.map.up, "1.bias": result.map.bias})
        share = explained(true, result.left_out, weights)
        self._log({"stage": "regression", "explained": share})
        self.say(f"the map explains {100 * share:.1f} % of the codes' variance on pairs left out")
        if len(encoder.lengths):
            count = min(LOOKED_AT, SHARD)
            with tqdm(total=look_ticks(len(encoder.lengths)), desc="looking", unit="part", disable=self.silent) as bar:
                learn_looks(encoder, self.generator, self.pairs.images(0, count), result.left_out[:count], bar.update)
            self._log({"stage": "looks", "lengths": encoder.lengths.tolist()})

    def _record(self) -> dict[str, Any]:
        """The settings that the fit depends on, and the generator."""
        names = ("rank", "components", "ridge", "damaged", "looks", "seed")
        chosen = {name: getattr(self.settings, name) for name in names}
        return {**chosen, "shards": self.pairs.shards, "generator": self.pairs.fingerprint}

    def _measure(self, encoder: CompactEncoder, record: dict[str, Any]) -> None:
        """Measure the encoder; log it, say it, and draw a sheet."""
        if not self.processes.first:
            return
        looks = self.validation.looks(encoder)
        self.measured = rows = self.validation.measure(looks)
        self._log({**record, "measured": rows})
        step = record.get("step")
        self.validation.sheet(looks, self.work / ("fit.jpg" if step is None else f"step-{step:06d}.jpg"))
        names = ["map", *(f"look {index}" for index in range(1, len(rows)))]
        self.say(
            "\n".join(f"{step or 'fit':>8} {name}: {_metrics(row)}" for name, row in zip(names, rows, strict=True))
        )

    def _log(self, record: dict[str, Any]) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        seconds = round(time.monotonic() - self.began, 1)
        with (self.work / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**record, "seconds": seconds}) + "\n")


def _metrics(row: dict[str, float]) -> str:
    identity = f", identity distance {row['identity']:.3f}" if "identity" in row else ""
    return f"LPIPS {row['lpips_alex']:.3f}, PSNR {row['psnr']:.1f} dB{identity}"
