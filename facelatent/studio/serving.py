"""Putting the studio on an address of this machine."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass

import uvicorn

from facelatent.errors import FacelatentError
from facelatent.studio.app import make_app
from facelatent.studio.studio import Studio

#: The only address that the studio listens on.
ADDRESS = "127.0.0.1"
#: Requests under way at once; a page needs three or four.
_MOST_REQUESTS = 32


@dataclass(frozen=True)
class Serving:
    """A server that is ready to run.

    Attributes:
        server: uvicorn's; ``server.run(sockets=[socket])`` serves until it is told to stop.
        socket: listens already.
        url: the page's address, with the token in it.
    """

    server: uvicorn.Server
    socket: socket.socket
    url: str

    def run(self) -> None:
        """Serve until Ctrl-C, or until ``server.should_exit`` is set."""
        self.server.run(sockets=[self.socket])


def prepare(studio: Studio, port: int = 0) -> Serving:
    """A server for a studio on :data:`ADDRESS`, with a new token.

    Args:
        studio: what it shows.
        port: 0 for any that is free.

    Raises:
        FacelatentError: the port is taken.
    """
    # Named as TCP, for asyncio sends without delay only then: else a browser waits 40 ms between headers and picture.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((ADDRESS, port))
        listening.listen()  # a browser that is opened now is answered as soon as the server runs
    except OSError as error:
        listening.close()
        raise FacelatentError(
            f"port {port} cannot be used ({error.strerror}); leave out --port for a free one"
        ) from error
    token = secrets.token_urlsafe(24)
    config = uvicorn.Config(
        make_app(studio, token),
        log_level="warning",
        access_log=False,  # its lines would have the token in them
        server_header=False,
        proxy_headers=False,
        http="h11",
        ws="none",
        lifespan="off",
        limit_concurrency=_MOST_REQUESTS,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
    )
    return Serving(uvicorn.Server(config), listening, f"http://{ADDRESS}:{listening.getsockname()[1]}/{token}/")
