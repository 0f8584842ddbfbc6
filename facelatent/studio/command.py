"""The command that makes on the command line what the studio shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from facelatent.studio.looks import Look


def command_for(
    source: str,
    look: Look,
    out: str,
    plain: str,
    styles: Mapping[str, Path],
    options: tuple[str, ...] = (),
) -> str:
    """The ``facelatent edit`` that draws ``look``; where nothing is edited, the ``facelatent render``.

    Args:
        source: photo or latent file.
        look: what is shown.
        out: picture that it writes.
        plain: an attribute that is named with strength 0 where nothing is changed but scores are held.
        styles: files by name.
        options: of the generator and the device.
    """
    edited = look.alphas or (((plain, 0.0),) if look.holds else ())
    words = ["facelatent", "edit" if edited else "render", _file(source)]
    for name, alpha in edited:
        words += ["--attr", name, "--alpha", f"{alpha:g}"]
    if look.holds:
        words += ["--hold", ",".join(look.holds)]
    if look.style is not None:
        words += ["--style", _file(str(styles[look.style]))]
        if look.style_strength != 1:
            words += ["--style-strength", f"{look.style_strength:g}"]
    return shlex.join([*words, *options, "-o", _file(out)])


def _file(name: str) -> str:
    """A file's name that no command takes for an option."""
    return f"./{name}" if name.startswith("-") else name
