"""Faces that are open in the studio, their files, and the thread that works on them."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path

from facelatent.errors import FacelatentError, InvalidFile
from facelatent.images import open_image
from facelatent.latent import SUFFIX, Latent
from facelatent.photo_latents import is_latent
from facelatent.studio.bench import Workbench
from facelatent.studio.session import Session, Stopped
from facelatent.studio.worker import Worker

#: Faces that are open at once, and characters of a name that are kept.
MOST_FACES, LONGEST_NAME = 8, 80
#: The truncation of random faces.
SAMPLE_PSI = 0.7


class UnknownFace(FacelatentError):
    """A face that is not open, or no longer."""


class TooManyFaces(FacelatentError):
    """No room for one more face."""


class Studio:
    """Several sessions and one :class:`Worker`. Its methods may be called from any thread.

    Args:
        bench: what the sessions share.
        worker: the thread that made the generator; None for a new one.
        most: faces that are open at once.

    Attributes:
        bench: as given.
        worker: the thread; whatever draws goes through it.
        folder: private folder of uploads, removed by :meth:`close`.
    """

    def __init__(self, bench: Workbench, worker: Worker | None = None, most: int = MOST_FACES) -> None:
        self.bench = bench
        self.worker = worker or Worker()
        self.folder = Path(tempfile.mkdtemp(prefix="facelatent-studio-"))
        self._most = most
        self._sessions: dict[str, Session] = {}
        self._room = threading.Lock()
        self._decoding = threading.Lock()

    def new_file(self) -> Path:
        """A path of our own choosing for an upload."""
        return self.folder / secrets.token_hex(8)

    def open_upload(self, file: Path, name: str) -> str:
        """A new face from an uploaded photo or latent.

        Args:
            file: one of :meth:`new_file`; it is the studio's from now on, and removed where it is refused.
            name: what the person's file is called; no path in it is ever opened.

        Returns:
            Its identifier. Inverting goes on in the background.

        Raises:
            UnreadableImage: it is no photo that can be opened.
            InvalidFile, IncompatibleLatent: it is called like a latent, and is none for this generator.
            TooManyFaces: close one first.
        """
        name = shown_name(name)
        try:
            self._check_room()
            with self._decoding:  # one at a time: a large picture takes a third of a gigabyte
                return self._add(self._session_of(file, name, None))
        except Exception as error:
            file.unlink(missing_ok=True)
            if isinstance(error, FacelatentError):
                raise type(error)(str(error).replace(str(file), name)) from error
            raise

    def open_file(self, path: Path) -> str:
        """A new face from a photo or latent of the user's, named on the command line; errors as :meth:`open_upload`.

        A photo's latent is kept beside it, and taken from there.
        """
        self._check_room()
        return self._add(self._session_of(path, path.name, str(path)))

    def open_other(self, identifier: str, number: int) -> str:
        """Another face of the photo of a face: the one that is open, or a new one.

        Args:
            identifier: of a face of the same photo.
            number: 1 = the best-scored.

        Raises:
            UnknownFace: there is no such face, or none of this number in its photo.
            TooManyFaces: close one first.
        """
        session = self.session(identifier)
        if not 1 <= number <= len(session.in_photo):
            raise UnknownFace(f"{session.name} has no face {number}")
        for other, candidate in self.sessions().items():
            if candidate.photo == session.photo and (candidate.number or 1) == number:
                return other
        assert session.photo is not None
        source = None if self._is_upload(session) else str(session.photo)
        made = Session(self.bench, session.name, session.photo, source, number)
        made.in_photo = session.in_photo  # to choose from already while this one is looked for
        return self._add(made)

    def open_sample(self, seed: int) -> str:
        """A new face that nobody has, the one of ``facelatent sample --seed N``."""
        self._check_room()
        latent = Latent.sample(self.bench.generator, seed, SAMPLE_PSI)
        return self._add(self._of_latent(latent, f"seed{seed:04d}{SUFFIX}"))

    def session(self, identifier: str) -> Session:
        """The face of that identifier.

        Raises:
            UnknownFace: there is none.
        """
        try:
            return self._sessions[identifier]
        except KeyError:
            raise UnknownFace("this face is not open any more; open the photo again") from None

    def sessions(self) -> dict[str, Session]:
        """All open faces by identifier, the oldest first."""
        return dict(self._sessions)

    def stop(self, identifier: str) -> Future[None]:
        """Let a face stay as it is now: its inversion ends at the next step."""
        return self.worker.quick(self.session(identifier).stop)

    def close_face(self, identifier: str) -> Future[None]:
        """Forget a face, and the copy of its photo if no other face is of it."""
        with self._room:
            session = self.session(identifier)
            del self._sessions[identifier]
        return self.worker.quick(lambda: self._remove(session))

    def close(self) -> None:
        """End the work and remove all uploads."""
        self.worker.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_room(self) -> None:
        if len(self._sessions) >= self._most:
            raise TooManyFaces(f"{self._most} faces are open; close one first")

    def _session_of(self, file: Path, name: str, source: str | None) -> Session:
        """A face from a file; a photo is opened once, to refuse it at once if it is none."""
        if not is_latent(Path(name)):
            open_image(file)
            return Session(self.bench, name, file, source)
        session = self._of_latent(Latent.load(file), name, source)
        if source is None:
            file.unlink()
        return session

    def _of_latent(self, latent: Latent, name: str, source: str | None = None) -> Session:
        if len(latent.ws) != 1 or not latent.ws.isfinite().all():
            raise InvalidFile(f"{name} does not hold the codes of one face")
        session = Session(self.bench, name, source=source)
        session.take(latent)
        return session

    def _add(self, session: Session) -> str:
        identifier = secrets.token_urlsafe(9)
        with self._room:
            self._check_room()
            self._sessions[identifier] = session
        if session.latent is None:
            self.worker.quick(session.begin)
            self.worker.slow(lambda: self._refine(identifier, session))
        return identifier

    def _refine(self, identifier: str, session: Session) -> None:
        if identifier in self._sessions:  # it may have been closed while it was looked for
            session.refine(self._between_steps)

    def _between_steps(self, what: str, done: int, total: int) -> None:
        self.worker.serve()
        if self.worker.closed:
            raise Stopped

    def _remove(self, session: Session) -> None:
        session.stop()
        shared = any(other.photo == session.photo for other in self.sessions().values())
        if session.photo is not None and self._is_upload(session) and not shared:
            session.photo.unlink(missing_ok=True)

    def _is_upload(self, session: Session) -> bool:
        return session.photo is not None and session.photo.parent == self.folder


def shown_name(name: str) -> str:
    """The last part of a file's name, without what could be mistaken for something else on a page or in a terminal."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(character for character in last if character.isprintable()).strip()
    if len(clean) > LONGEST_NAME:
        stem, dot, ending = clean.rpartition(".")
        clean = stem[: LONGEST_NAME - 20] + dot + ending[:19] if dot else clean[:LONGEST_NAME]
    return clean if clean.strip(". ") else "photo.jpg"
