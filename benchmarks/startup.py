"""Start-up: how long ``facelatent --version``, ``--help`` and ``import facelatent`` take, beside Python itself.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from common import publish

REPEATS = 5
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "import facelatent": ("-c", "import facelatent"),
    "facelatent --version": ("-m", "facelatent", "--version"),
    "facelatent --help": ("-m", "facelatent", "--help"),
    "facelatent edit --help": ("-m", "facelatent", "edit", "--help"),
    "facelatent config": ("-m", "facelatent", "config"),
    "import Editor": ("-c", "from facelatent import Editor"),
}


def seconds(arguments: tuple[str, ...]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    samples: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        seconds(arguments)  # writes .pyc files
    for _ in range(REPEATS):
        for name, arguments in COMMANDS.items():
            samples[name].append(seconds(arguments))
    publish(
        "startup",
        [
            {"command": name, "median_s": statistics.median(times), "least_s": min(times)}
            for name, times in samples.items()
        ],
    )


if __name__ == "__main__":
    main()
