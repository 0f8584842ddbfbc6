"""The files that a person takes along: the picture, the whole photo, a GIF, the latent."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from facelatent.editing import note_of
from facelatent.errors import FacelatentError
from facelatent.images import save_image
from facelatent.latent import SUFFIX
from facelatent.photos import open_photo, save_photo
from facelatent.render import save_animation
from facelatent.studio.session import Session

#: A file's name and contents.
Named = tuple[str, bytes]

#: The clip that is saved: its frames, there and back, and its side in pixels.
CLIP_FRAMES, CLIP_SIDE = 48, 512


def picture_file(session: Session) -> Named:
    """The look that is chosen, as PNG."""
    drawing = session.drawing
    picture = drawing.picture(session.history.current)
    return _file(session, "-edited.png", lambda path: save_image(picture, path, note_of(drawing.latent)))


def photo_file(session: Session) -> Named:
    """The whole photo with the edited face in it, as JPEG.

    Raises:
        FacelatentError: there is no photo.
    """
    if session.photo is None:
        raise FacelatentError("this face was not made from a photo: there is nothing to paste it into")
    photo = open_photo(session.photo)
    pasted = session.drawing.pasted(session.history.current, photo.image)
    return _file(session, "-edited.jpg", lambda path: save_photo(pasted, path, photo))


def clip_file(session: Session, frames: int = CLIP_FRAMES, size: int = CLIP_SIDE) -> Named:
    """A GIF from the unedited face to the chosen look and back.

    Raises:
        FacelatentError: no slider is moved: nothing would move.
    """
    drawing = session.drawing
    drawn = drawing.frames(session.history.current, frames, size)
    if not drawn:
        raise FacelatentError("move a slider first: a GIF goes from the unedited face to the edited one and back")
    return _file(session, ".gif", lambda path: save_animation(drawn, path, note=note_of(drawing.latent)))


def latent_file(session: Session) -> Named:
    """The face without edits, which the command reads."""
    return _file(session, SUFFIX, session.drawing.latent.save)


#: What can be saved, by what the page calls it.
FILES: Mapping[str, Callable[[Session], Named]] = {
    "picture": picture_file,
    "photo": photo_file,
    "clip": clip_file,
    "latent": latent_file,
}


def _file(session: Session, ending: str, write: Callable[[Path], object]) -> Named:
    """What ``write`` writes, through a file in a folder of our own: writers choose the format by its name."""
    folder = Path(tempfile.mkdtemp(prefix="facelatent-"))
    try:
        write(folder / f"file{ending}")
        return session.stem + ending, (folder / f"file{ending}").read_bytes()
    finally:
        shutil.rmtree(folder)
