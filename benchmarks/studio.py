"""The studio: from a slider that moves to new pixels, over HTTP and, where there is a Chromium, on the page.

    python benchmarks/studio.py

Rows of one size are timed in turns with the generator alone, so that what the studio adds can be told from what a busy
machine does; "CPU ms" is what the process computed meanwhile, on all its threads, whatever else the machine did. The
bars are 150 ms at 256 px and 400 ms at 1024 px.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from common import interleaved, publish

from facelatent.boundaries import load_boundary, shipped_boundaries
from facelatent.studio import Studio, Workbench, Worker
from facelatent.studio.serving import prepare
from facelatent.stylegan_ops import DEFAULT_GENERATOR, load_generator

_BARS: dict[int | str, int] = {256: 150, 1024: 400}
#: How often a hold is timed: each time at another strength, as what is known is not measured again.
_HOLDS = 9
#: Waits in the page for a picture of a kind that is newer than the one shown, after the slider has said so.
_MOVE = """async ([value, kind]) => {
  const canvas = document.getElementById("after"), slider = document.querySelector("[data-attribute=smile]");
  const old = Number(canvas.dataset.serial || 0), began = performance.now();
  const drawn = new Promise((done) => {
    const watcher = new MutationObserver(() => {
      if (Number(canvas.dataset.serial) <= old || canvas.dataset.shown !== kind) return;
      watcher.disconnect();
      done();
    });
    watcher.observe(canvas, { attributes: true });
  });
  slider.value = value;
  slider.dispatchEvent(new Event(kind === "full" ? "change" : "input"));
  await drawn;
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""


class Client:
    """The studio over one connection, as a page has it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._base = parts.path
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        self._steps = 0

    def ask(self, method: str, path: str, value: Any = None) -> bytes:
        """The body of an answer."""
        body = None if value is None else json.dumps(value)
        self._connection.request(method, self._base + path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise RuntimeError(data.decode())
        return data

    def drag(self, face: str, side: int) -> int:
        """Move a slider on; bytes of the picture."""
        return len(self.ask("POST", f"faces/{face}/preview", {**self._look(), "side": side}))

    def release(self, face: str) -> int:
        """Let the slider go: the look, and the full picture."""
        self.ask("POST", f"faces/{face}/look", self._look())
        return len(self.ask("GET", f"faces/{face}/picture.jpg"))

    def hold(self, face: str, *names: str) -> float:
        """Seconds until a look in which these scores are held is chosen."""
        began = time.perf_counter()
        self.ask("POST", f"faces/{face}/look", {**self._look(), "holds": names})
        return time.perf_counter() - began

    def _look(self) -> dict[str, Any]:
        self._steps += 1
        return {"alphas": {"smile": 0.1 * (self._steps % 40) + 0.1}}


@contextlib.contextmanager
def served(studio: Studio) -> Iterator[str]:
    """The address of a studio that runs in a thread."""
    serving = prepare(studio)
    thread = threading.Thread(target=serving.run, daemon=True)
    thread.start()
    while not serving.server.started:
        time.sleep(0.01)
    try:
        yield serving.url
    finally:
        serving.server.should_exit = True
        thread.join()
        studio.close()


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median of what this process computes in one call, in seconds, the studio's threads included."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return statistics.median(found)


def in_chromium(url: str, path: str, repeats: int) -> dict[str, list[float]]:
    """Milliseconds from a slider's event to the picture on the page, by kind of picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(url)
        page.wait_for_selector("#after[data-shown=full]")
        times: dict[str, list[float]] = {"preview": [], "full": []}
        for step in range(repeats + 1):
            for kind, found in times.items():
                taken = page.evaluate(_MOVE, [0.1 * (step % 40) + (0.1 if kind == "full" else 0.15), kind])
                if step:
                    found.append(taken)
        browser.close()
    return times


def workbench() -> Workbench:
    """As the command makes it."""
    generator = load_generator(DEFAULT_GENERATOR, "cpu")
    return Workbench(generator, {name: load_boundary(name, generator) for name in shipped_boundaries()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--chromium", default=shutil.which("chromium-headless-shell") or shutil.which("chromium"))
    chosen = parser.parse_args()
    worker = Worker()
    studio = Studio(worker.quick(workbench).result(), worker)
    face = studio.open_sample(3)
    session = studio.session(face)
    rows = []

    def plain(side: int) -> object:
        return worker.quick(lambda: session.plain(side)).result()

    def add(what: str, side: int | str, seconds: float, alone: float | None, cpu: float | None = None) -> None:
        milliseconds = {
            name: "" if value is None else round(1e3 * value)
            for name, value in (("ms", seconds), ("generator alone", alone), ("CPU ms", cpu))
        }
        rows.append({"what": what, "side": side, **milliseconds, "bar": _BARS.get(side, "")})

    with served(studio) as url:
        client = Client(url)
        works: dict[int, Callable[[], object]] = {
            256: lambda: client.drag(face, 256),
            512: lambda: client.drag(face, 512),
            1024: lambda: client.release(face),
        }
        for side, work in works.items():
            found = interleaved({"studio": work, "alone": partial(plain, side)}, chosen.repeats, least=0)
            add("over HTTP", side, found["studio"], found["alone"], cpu_seconds(work, chosen.repeats))
        for names in (("age",), ("age", "yaw", "gender")):
            client.hold(face, *names)  # loads what measures them
            taken = statistics.median(client.hold(face, *names) for _ in range(_HOLDS))
            add(f"scores held: {len(names)}", "", taken, None)
        client.release(face)  # nothing held
        if chosen.chromium:
            times = in_chromium(url, chosen.chromium, chosen.repeats)
            for kind, side in (("preview", 256), ("full", 1024)):
                alone_now = interleaved({"alone": partial(plain, side)}, 9, least=0)["alone"]
                add("on the page", side, statistics.median(times[kind]) / 1e3, alone_now)
    publish("studio", rows, repeats=chosen.repeats)


if __name__ == "__main__":
    main()
