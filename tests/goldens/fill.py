"""Deterministic weights for golden comparisons, numpy only.

Every tensor of a network is filled from its *name*, so nobody has to ship hundreds of megabytes of random
weights: build the network, call ``fill(state_dict_shapes)``, load the result, and compare outputs with the
stored ones. The rule depends on nothing but the name, the shape and the kind given in ``KINDS`` order below.

    values = fill({"style.1.weight": (512, 512), ...})

Rules, first match wins (``n`` is a standard normal draw from Philox keyed by CRC-32 of the name):
    - integer counters (``num_batches_tracked``)                   0
    - ``*running_var``                                            1 + 0.1 |n|
    - ``*running_mean``                                           0.1 n
    - fixed filters (``resample_filter``, ``*.kernel``, ``blur.*``)  left to the network (not filled)
    - ``w_avg``, ``latent_avg``                                    0.1 n
    - ``noise_strength``, ``*.noise.weight``                       0.1 n
    - ``noise_const``, ``noises.noise_*``, ``input.const``, ``input.input``, ``const``   n
    - PReLU slopes (given in ``prelu``)                            0.25 + 0.05 n
    - batch-norm scale (given in ``bn``)                           1 + 0.1 n
    - any other 1-d tensor (biases)                                0.1 n   (+1 where the name is in ``ones``)
    - mapping-network matrices (``mapping.fc*``, ``mapping.embed*``, ``style.*``) in equalised networks   100 n
                                                                  (they carry a learning-rate multiplier of 0.01)
    - any other tensor (weights)                                   gain * n, gain = 1 for equalised-learning-rate
                                                                  networks, sqrt(1 / fan_in) otherwise
"""

from __future__ import annotations

import zlib

import numpy as np


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 values that depend on ``name`` and ``shape`` alone."""
    generator = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    return generator.standard_normal(shape, dtype=np.float32)


def fill(
    shapes: dict[str, tuple[int, ...]],
    equalized: bool,
    bn: frozenset[str] = frozenset(),
    prelu: frozenset[str] = frozenset(),
    ones: frozenset[str] = frozenset(),
) -> dict[str, np.ndarray]:
    """Values for every name in ``shapes`` but the fixed filters; see the module docstring for the rules."""
    values: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        last = name.rsplit(".", 1)[-1]
        if last in ("resample_filter", "kernel"):
            continue
        if last == "num_batches_tracked":
            values[name] = np.zeros(shape, np.int64)
            continue
        n = normal(name, shape)
        if last == "running_var":
            v = 1 + 0.1 * np.abs(n)
        elif last in ("running_mean", "w_avg", "latent_avg", "noise_strength") or name.endswith("noise.weight"):
            v = 0.1 * n
        elif last in ("noise_const", "const") or name.startswith("noises.") or name == "input.input":
            v = n
        elif name in prelu:
            v = 0.25 + 0.05 * n
        elif name in bn:
            v = 1 + 0.1 * n
        elif len(shape) <= 1:
            v = 0.1 * n + (1 if name in ones else 0)
        elif equalized:
            v = (100 if name.startswith(("mapping.", "style.")) else 1) * n
        else:
            v = n / float(np.sqrt(np.prod(shape[1:])))
        values[name] = np.asarray(v, np.float32)
    return values
