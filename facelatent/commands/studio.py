"""The command ``studio``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import contextlib
import signal
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelatent.commands.common import chosen_generator, chosen_recipe, device_option, generator_option, recipe_options
from facelatent.commands.pipes import expanded
from facelatent.errors import FacelatentError
from facelatent.memory import keep_freed_memory

if TYPE_CHECKING:
    from facelatent.studio import Workbench


def add_to(group: click.Group) -> None:
    """Add this module's command to ``group``."""
    group.add_command(studio)


@click.command()
@click.argument("photos", metavar="[PHOTO|LATENT...]", nargs=-1, type=click.Path(path_type=Path), callback=expanded)
@click.option(
    "--boundary", "own", multiple=True, metavar="FILE", help="A slider for this boundary file, too; may be repeated."
)
@click.option(
    "--style",
    "styles",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Offer this style; may be repeated.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1.  [default: a free one]")
@click.option("--open/--no-open", "open_page", default=True, show_default=True, help="Open the page in a browser.")
@recipe_options
@generator_option
@device_option
def studio(
    photos: tuple[Path, ...], own: tuple[str, ...], styles: tuple[Path, ...], port: int, open_page: bool, **options: Any
) -> None:
    """Edit faces in the browser, with sliders.

    Opens a page that only this machine can reach, and only with the key in its address. A photo can be edited after a
    second, while it is still being inverted. Of a PHOTO that is named here the latent is kept beside it, as by
    `facelatent edit`; uploads are forgotten when the studio ends. Ctrl-C ends it.

    \b
    Examples:
      facelatent studio
      facelatent studio me.jpg
      facelatent studio me.jpg anna.latent.safetensors --no-open --port 8000
      facelatent studio --boundary hat.boundary.safetensors --style mona.safetensors
    """
    keep_freed_memory()  # now, before torch is imported: the studio draws and inverts in a thread
    try:
        from facelatent.studio.serving import prepare
    except ModuleNotFoundError as error:
        raise FacelatentError(
            f"the studio needs the extra 'studio' ({error.name} is missing): pip install 'facelatent[studio]'"
        ) from error
    from facelatent.studio import Studio, Worker

    worker = Worker()
    bench = worker.quick(lambda: _workbench(own, styles, options)).result()
    with _ended_like_ctrl_c(), contextlib.closing(Studio(bench, worker)) as opened:
        for photo in photos:
            opened.open_file(photo)
        serving = prepare(opened, port)
        click.echo(f"the studio is at {serving.url} (Ctrl-C ends it)")
        if open_page:
            webbrowser.open(serving.url)
        with contextlib.suppress(KeyboardInterrupt):
            serving.run()


@contextlib.contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Let a closed terminal and ``kill`` do what Ctrl-C does: else nothing would remove the uploads."""
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    changed = [one for one in signals if signal.getsignal(one) is signal.SIG_DFL]  # nohup ignores SIGHUP
    for one in changed:
        signal.signal(one, signal.default_int_handler)
    try:
        yield
    finally:
        for one in changed:
            signal.signal(one, signal.SIG_DFL)


def _workbench(own: tuple[str, ...], styles: tuple[Path, ...], options: dict[str, Any]) -> Workbench:
    from facelatent.boundaries import load_boundary, shipped_boundaries
    from facelatent.errors import IncompatibleLatent
    from facelatent.inversion import Recipe, check_recipe
    from facelatent.studio import StyleShelf, Workbench

    generator, recipe = chosen_generator(options), chosen_recipe(options)
    check_recipe(recipe or Recipe(), generator)
    boundaries = {name: load_boundary(name, generator) for name in own}
    for name in shipped_boundaries():
        # A generator of the user's own may have another W space, and boundaries of the user's own for it.
        with contextlib.suppress(IncompatibleLatent):
            boundaries[name] = load_boundary(name, generator)
    if not boundaries:
        raise FacelatentError(
            f"no shipped boundary is for {generator.name}: pass your own with --boundary (see 'facelatent attributes')"
        )
    named = ("--generator", options["generator_name"]) if options["generator_name"] else ()
    device = ("--device", options["device"]) if options["device"] else ()
    shelf = StyleShelf.read(styles, generator)
    return Workbench(generator, boundaries, recipe, shelf=shelf, options=(*named, *device))
