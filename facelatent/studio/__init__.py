"""The studio: a web page on this machine on which a person edits faces.

``Session`` is one face and everything that can be done with it, in plain Python; ``Studio`` holds several and the one
thread that draws; ``app``, ``asking``, ``guard`` and ``serving`` put them on the web. Only those four know of HTTP.
"""

from facelatent.studio.bench import Workbench
from facelatent.studio.looks import History, Look
from facelatent.studio.session import Session
from facelatent.studio.studio import Studio
from facelatent.studio.styles import StyleShelf
from facelatent.studio.worker import Worker

__all__ = ["History", "Look", "Session", "Studio", "StyleShelf", "Workbench", "Worker"]
