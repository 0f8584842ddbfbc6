"""What every generator offers, whatever network it is made of."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from facelatent.stylegan_ops.backend import Backend

#: Noise in a picture's detail: the generator's own maps, new ones, or none.
Noise = Literal["const", "random", "none"]
#: Style space S: what each layer's channels are multiplied by, [n, channels] by layer name.
Styles = dict[str, Tensor]

_STATISTICS_SAMPLES = 1 << 16
_STATISTICS_SEED = 0
# W spaces are told apart by this many values of w, in steps far above float32 rounding and far below w's spread.
_W_SPACE_VALUES = 16
_W_SPACE_STEP = 1 / 128


class Generator(nn.Module):
    """A face generator: ``z -> w -> ws (W+) -> images``.

    Subclasses implement :meth:`mapping`, :meth:`synthesis`, and style space: :attr:`style_names`, :meth:`styles` and
    :meth:`draw_styles`.

    Attributes:
        name: name in the registry, e.g. ``mobile-ffhq-1024``.
        resolution: side of the square output in pixels.
        layer_resolutions: for each W+ layer, the resolution at which it acts. Layer ranges of edits are kept as
            resolutions so that they carry over between generators with different numbers of layers.
        label_dim: number of classes; 0 for an unconditional generator.
        backend: which operators draw; see :func:`~facelatent.stylegan_ops.backend.chosen`.
        w_avg: [w_dim] mean of w.
        w_std: [w_dim] standard deviation of each coordinate of w.
        w_components: [w_dim, w_dim] principal components of w, one a row, by falling variance.
        w_scales: [w_dim] standard deviation of w along each component.
        backend: which implementation draws; see :func:`~facelatent.stylegan_ops.backend.chosen`.
    """

    w_avg: Tensor
    w_std: Tensor
    w_components: Tensor
    w_scales: Tensor

    def __init__(
        self, name: str, resolution: int, layer_resolutions: tuple[int, ...], z_dim: int = 512, w_dim: int = 512
    ):
        super().__init__()
        self.name = name
        self.resolution = resolution
        self.layer_resolutions = layer_resolutions
        self.z_dim = z_dim
        self.w_dim = w_dim
        self.label_dim = 0
        self.backend: Backend | None = None
        self._source: tuple[Generator, ...] = ()  # in a tuple, lest nn.Module make its weights part of this one's
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.register_buffer("w_std", torch.ones(w_dim))
        # On the CPU by name: torch.eye on the meta device, where loaders build networks, imports a second of compilers.
        self.register_buffer("w_components", torch.eye(w_dim, device="cpu"))
        self.register_buffer("w_scales", torch.ones(w_dim))

    @property
    def num_ws(self) -> int:
        """Number of W+ layers."""
        return len(self.layer_resolutions)

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.w_avg.device

    @property
    def source(self) -> Generator:
        """The generator whose codes this one draws: what it was adapted or tuned from; most are their own source.

        Photos are inverted with it, and latents, boundaries and encoders that are its work here, too: W+ and the
        channels of S mean the same in both.
        """
        return self._source[0] if self._source else self

    def made_from(self, generator: Generator) -> None:
        """Let :attr:`source` be that of ``generator``, of which this one is a copy with other convolutions."""
        self._source = (generator.source,)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over every weight (names and float32 bytes); latents and boundaries record it."""
        digest = hashlib.sha256()
        for key, value in sorted(self.state_dict().items()):
            if not key.startswith("w_"):  # statistics are derived from the weights
                digest.update(key.encode())
                digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def w_space(self) -> str:
        """What the mapping network makes of fixed inputs, as hex digits; compare with :func:`same_w_space`.

        Generators with the same mapping have the same W space: a boundary trained on one acts on the other.
        """
        # Quasi-random numbers by arithmetic, so that no library's generator is part of the definition.
        steps = torch.arange(1, 4 * self.z_dim + 1, dtype=torch.float64)
        z = torch.sin(steps * steps * 0.6180339887498949).reshape(4, self.z_dim).float().to(self.device)
        label = torch.eye(self.label_dim, device=z.device)[:1].expand(4, -1) if self.label_dim else None
        with torch.no_grad():
            w = self.mapping(z, label)[:, : _W_SPACE_VALUES // 4].flatten().double().cpu()
        rounded = (w / _W_SPACE_STEP).round().clamp(-32768, 32767)
        return rounded.numpy().astype(">i2").tobytes().hex()

    def mapping(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Map z [n, z_dim], standard normal, to w [n, w_dim]; ``label`` [n, label_dim] only where there are classes.

        Raises:
            ValueError: a label is missing, or given to a generator without classes.
        """
        raise NotImplementedError

    def _check_label(self, label: Tensor | None, count: int) -> None:
        if self.label_dim and (label is None or label.shape != (count, self.label_dim)):
            seen = "none" if label is None else list(label.shape)
            raise ValueError(f"{self.name} needs a label [{count}, {self.label_dim}], got {seen}")
        if not self.label_dim and label is not None:
            raise ValueError(f"{self.name} has no classes; leave the label out")

    def synthesis(self, ws: Tensor, noise: Noise = "const", resolution: int | None = None) -> Tensor:
        """Draw images [n, 3, H, W], RGB, nominally in [-1, 1], from ws [n, num_ws, w_dim].

        Args:
            ws: one w per layer.
            noise: the generator's fixed noise maps, fresh ones of the same strength, or none.
            resolution: side of the result: the full resolution divided by a power of two, by exact area averaging.
        """
        raise NotImplementedError

    @property
    def style_names(self) -> tuple[str, ...]:
        """Names of the layers of style space S, in drawing order."""
        raise NotImplementedError

    def styles(self, ws: Tensor) -> Styles:
        """Style space S of ws [n, num_ws, w_dim]: by layer name, [n, channels of the layer].

        Wu et al., "StyleSpace Analysis", 2021. To edit, change a channel and pass the result to :meth:`draw_styles`.
        """
        raise NotImplementedError

    def draw_styles(self, styles: Styles, noise: Noise = "const", resolution: int | None = None) -> Tensor:
        """Draw images from style space S as :meth:`styles` gives it; otherwise as :meth:`synthesis`.

        Raises:
            ValueError: a layer's style is missing, unknown, or has another number of channels.
        """
        raise NotImplementedError

    def broadcast(self, w: Tensor) -> Tensor:
        """Repeat w [n, w_dim] for every layer: ws [n, num_ws, w_dim]."""
        return w.unsqueeze(1).expand(-1, self.num_ws, -1)

    def truncate(self, ws: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
        """Pull ws [n, num_ws, w_dim] (or w [n, w_dim]) towards the mean: ``w_avg + psi (w - w_avg)``.

        Args:
            ws: codes.
            psi: 1 leaves the codes alone, 0 gives the mean face; above 1 exaggerates.
            cutoff: only the first ``cutoff`` layers of W+ codes, as in StyleGAN2.
        """
        if psi == 1:
            return ws
        truncated = self.w_avg + psi * (ws - self.w_avg)
        if cutoff is None or ws.ndim == 2:
            return truncated
        return torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)

    def sample_w(self, seed: int, psi: float = 1.0, label: Tensor | None = None) -> Tensor:
        """The w [1, w_dim] of a seed. The draw is made on the CPU so that a seed means one face on every device."""
        z = torch.randn(1, self.z_dim, generator=torch.Generator().manual_seed(seed))
        return self.truncate(self.mapping(z.to(self.device), label), psi)

    def layers_between(self, first: int, last: int) -> list[int]:
        """Indices of the W+ layers that act at resolutions ``first`` to ``last``, both included."""
        return [index for index, side in enumerate(self.layer_resolutions) if first <= side <= last]

    def std_along(self, direction: Tensor) -> float:
        """Standard deviation of w (psi 1) along a unit direction [w_dim]."""
        parts = self.w_scales * (self.w_components @ direction.to(self.w_avg))
        return float(parts.square().sum().sqrt())

    @torch.no_grad()
    def typical_ws(self, count: int) -> Tensor:
        """w [count, w_dim] of ``count`` samples with a fixed seed; their classes, if any, are uniformly random."""
        random = torch.Generator().manual_seed(_STATISTICS_SEED)
        z = torch.randn(count, self.z_dim, generator=random)
        if not self.label_dim:
            return torch.cat([self.mapping(part.to(self.device)) for part in torch.split(z, 4096)])
        labels = torch.eye(self.label_dim)[torch.randint(self.label_dim, (count,), generator=random)]
        parts = zip(torch.split(z, 4096), torch.split(labels, 4096), strict=True)
        return torch.cat([self.mapping(part.to(self.device), label.to(self.device)) for part, label in parts])

    @torch.no_grad()
    def measure_w(self) -> None:
        """Fill ``w_avg``, ``w_std``, ``w_components`` and ``w_scales`` from 65,536 samples with a fixed seed."""
        w = self.typical_ws(_STATISTICS_SAMPLES).double()
        variances, vectors = torch.linalg.eigh(torch.cov(w.T).reshape(self.w_dim, self.w_dim))
        components = vectors.flip(1).T
        # An eigenvector's sign is arbitrary: fix it, so that stored statistics do not depend on the LAPACK build.
        components = components * components.gather(1, components.abs().argmax(1, keepdim=True)).sign()
        self.w_avg.copy_(w.mean(0))
        self.w_std.copy_(w.std(0))
        self.w_components.copy_(components)
        self.w_scales.copy_(variances.flip(0).clamp_min(0).sqrt())


def same_w_space(first: str, second: str) -> bool:
    """Whether two :attr:`Generator.w_space` values mean one W space; a value may differ by one rounding step.

    Folding the learning-rate multiplier into the weights, or another device, changes w by about 1e-6.
    """
    try:
        a, b = (np.frombuffer(bytes.fromhex(value), ">i2").astype(int) for value in (first, second))
    except ValueError:
        return False
    return len(a) == len(b) == _W_SPACE_VALUES and bool((abs(a - b) <= 1).all())


def check_noise(noise: str) -> None:
    """Raise ValueError unless ``noise`` is one of :data:`Noise`: a misspelt mode would quietly mean none."""
    if noise not in get_args(Noise):
        raise ValueError(f"noise must be one of {', '.join(get_args(Noise))}, got {noise!r}")


def check_styles(styles: Styles, channels: dict[str, int]) -> None:
    """Raise ValueError unless ``styles`` has exactly the layers and ``channels`` of a generator."""
    found = {name: style.shape[1] for name, style in styles.items()}
    if found != channels:
        wrong = sorted(name for name in channels.keys() | found.keys() if channels.get(name) != found.get(name))
        raise ValueError(f"styles missing, unknown or of another size: {', '.join(wrong[:5])}")


def pooled(images: Tensor, resolution: int, full: int) -> Tensor:
    """Average ``images`` [n, c, H, H] of a ``full`` px generator down to ``resolution``, a power-of-two fraction.

    Raises:
        ValueError: the resolution is not ``full`` divided by a power of two.
    """
    factor, rest = divmod(full, resolution) if resolution > 0 else (0, 1)
    if rest or factor & (factor - 1):
        raise ValueError(f"resolution must be {full} divided by a power of two, got {resolution}")
    side = images.shape[-1]
    return images if side == resolution else nn.functional.avg_pool2d(images, side // resolution)
