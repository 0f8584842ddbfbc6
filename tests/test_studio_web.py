"""The studio over HTTP: pictures and files come back, and what should not be taken is refused with a line."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from conftest import bomb
from PIL import Image
from studio_parts import BAD_FILES, picture_bytes, workbench

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from facelatent.latent import Latent
from facelatent.studio import Studio
from facelatent.studio.asking import MAX_JSON, MAX_UPLOAD
from facelatent.studio.serving import prepare
from facelatent.studio.studio import MOST_FACES
from facelatent.stylegan_ops import MobileStyleGAN

pytest_plugins = ("studio_parts",)

_PATIENCE = 120  # seconds: machines that run tests are busy


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Asks a studio that runs in a thread, as the page does unless told otherwise."""

    studio: Studio
    url: str
    bright: str = ""
    red: str = ""
    address: tuple[str, int] = field(init=False)
    base: str = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        self.address, self.base = (parts.hostname or "", parts.port or 0), parts.path
        self.bright, self.red = self.studio.bench.boundaries

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, base: str | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(*self.address, timeout=_PATIENCE)
        try:
            connection.request(method, (self.base if base is None else base) + path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, value: Any) -> Answer:
        return self.send_json(path, json.dumps(value).encode())

    def send_json(self, path: str, data: bytes) -> Answer:
        return self.ask("POST", path, data, {"Content-Type": "application/json"})

    def upload(self, data: bytes, name: str = "me.jpg", kind: str = "application/octet-stream") -> Answer:
        return self.ask("POST", f"faces?name={quote(name, safe='')}", data, {"Content-Type": kind})

    def raw(self, data: bytes) -> bytes:
        """What comes back to bytes that no well-behaved client would send."""
        with socket.create_connection(self.address, timeout=_PATIENCE) as connection:
            with contextlib.suppress(OSError):  # refused before all was sent
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                return b"".join(iter(lambda: connection.recv(65536), b""))
        return b""

    def sample(self) -> str:
        identifier: str = self.post("samples", {"seed": 3}).json["id"]
        return identifier

    def wait(self, identifier: str) -> dict[str, Any]:
        """The state of a face once nothing is being done about it."""
        for _ in range(6000):
            state: dict[str, Any] = self.get(f"faces/{identifier}").json
            if state["phase"] in ("ready", "failed"):
                return state
            time.sleep(0.01)
        raise AssertionError(f"still {state['phase']}")


@pytest.fixture(scope="module")
def served(tiny_generator: MobileStyleGAN, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    studio = Studio(workbench(tiny_generator, tmp_path_factory.mktemp("boundaries")))
    serving = prepare(studio)
    thread = threading.Thread(target=serving.run, daemon=True)
    thread.start()
    for _ in range(1000):
        if serving.server.started:
            break
        time.sleep(0.01)
    yield Client(studio, serving.url)
    serving.server.should_exit = True
    thread.join(10)
    studio.close()


@pytest.fixture
def client(served: Client, easy_inversion: None) -> Iterator[Client]:
    """The studio without faces; after each test it is alive, and no upload is left lying about."""
    yield served
    assert served.get("studio.json").status == 200
    for identifier in served.studio.sessions():
        served.wait(identifier)
        assert served.ask("DELETE", f"faces/{identifier}").status == 200
    assert not list(served.studio.folder.iterdir())


def picture(answer: Answer) -> Image.Image:
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "image/jpeg"
    return Image.open(io.BytesIO(answer.body))


# What the page does


def test_the_page_is_all_of_the_package(client: Client) -> None:
    page = client.get("")
    assert page.headers["Content-Type"].startswith("text/html")
    text = page.body.decode()
    assert "http:" not in text
    assert "https:" not in text
    for name in (file.name for file in (resources.files("facelatent.studio") / "static").iterdir()):
        answer = client.get(f"static/{name}")
        assert answer.status == 200
        assert b"https:" not in answer.body
        assert b"http:" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
    assert client.get("static/main.js").headers["Content-Type"].startswith("text/javascript")


def test_every_answer_carries_its_guards(client: Client) -> None:
    for answer in (client.get(""), client.get("studio.json"), client.get("none"), client.ask("GET", "", base="/x/")):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] is None


def test_answers_are_not_held_back(client: Client) -> None:
    """asyncio switches Nagle's algorithm off only on sockets that say they are TCP's."""
    with prepare(client.studio).socket as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_overview(client: Client) -> None:
    overview = client.get("studio.json").json
    (group,) = overview["groups"]
    assert [one["label"] for one in group["attributes"]] == ["bright", "red"]
    assert overview["styles"] == []
    assert overview["faces"] == []


def test_upload_slide_save(client: Client, tmp_path: Path) -> None:
    answer = client.upload(picture_bytes(), "holiday ☀.jpg")
    assert answer.status == 201
    identifier = answer.json["id"]
    state = client.wait(identifier)
    assert (state["phase"], state["name"], state["version"]) == ("ready", "holiday ☀.jpg", 1)
    assert picture(client.get(f"faces/{identifier}/before.jpg")).size == (64, 64)
    plain = client.get(f"faces/{identifier}/plain.jpg").body
    drawn = client.get(f"faces/{identifier}/picture.jpg")
    assert drawn.body == plain
    look = {"alphas": {client.bright: 2}, "holds": [], "style": None, "style_strength": 1.0}
    preview = client.post(f"faces/{identifier}/preview", {**look, "side": 256})
    assert picture(preview).size == (64, 64)
    assert not client.get(f"faces/{identifier}").json["can_undo"]
    chosen = client.post(f"faces/{identifier}/look", look).json
    assert chosen["look"] == look
    assert "--alpha 2" in chosen["command"]
    moved = client.get(f"faces/{identifier}/picture.jpg").body
    assert moved != plain
    undone = client.post(f"faces/{identifier}/undo", {}).json
    assert undone["can_redo"]
    assert client.get(f"faces/{identifier}/picture.jpg").body == plain
    client.post(f"faces/{identifier}/redo", {})
    assert client.get(f"faces/{identifier}/picture.jpg").body == moved
    saved = client.get(f"faces/{identifier}/files/picture")
    assert saved.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{quote('holiday ☀-edited.png')}"
    assert Image.open(io.BytesIO(saved.body)).format == "PNG"
    clip = Image.open(io.BytesIO(client.get(f"faces/{identifier}/files/clip").body))
    assert clip.n_frames in range(24, 49)  # frames that are alike are one
    latent = client.get(f"faces/{identifier}/files/latent")
    (tmp_path / "x.latent.safetensors").write_bytes(latent.body)
    assert Latent.load(tmp_path / "x.latent.safetensors").photo_sha256


def test_the_faces_in_a_photo(client: Client) -> None:
    first = client.upload(picture_bytes(size=(160, 80)), "two.jpg").json["id"]
    state = client.wait(first)
    assert (state["in_photo"], state["number"]) == (2, 1)
    for number in (1, 2):
        assert picture(client.get(f"faces/{first}/photo/{number}.jpg")).size == (128, 128)
    for number in ("0", "3", "-1", "x", "1e3"):
        assert client.get(f"faces/{first}/photo/{number}.jpg").status == 404
    answer = client.post(f"faces/{first}/other", {"number": 2})
    assert answer.status == 201
    assert client.wait(answer.json["id"])["number"] == 2
    before = [client.get(f"faces/{identifier}/before.jpg").body for identifier in (first, answer.json["id"])]
    assert before[0] != before[1]
    assert client.post(f"faces/{first}/other", {"number": 2}).json["id"] == answer.json["id"]
    for number, status in ((3, 404), (0, 422), ("2", 422), (True, 422), (None, 422), (1e3, 422)):
        assert client.post(f"faces/{first}/other", {"number": number}).status == status
    assert client.post(f"faces/{client.sample()}/other", {"number": 1}).status == 404


def test_stopping(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from facelatent.studio import session as session_module

    def endless(recipe: object, image: object, generator: object, progress: Any = False, **others: object) -> None:
        for step in itertools.count():
            time.sleep(0.005)
            progress("inverting", step, 10**9)

    monkeypatch.setattr(session_module, "invert_with", endless)
    first, second = (client.upload(picture_bytes(), name).json["id"] for name in ("a.jpg", "b.jpg"))
    while not client.get(f"faces/{first}").json["step"]["total"]:
        time.sleep(0.01)
    assert client.get(f"faces/{second}").json["step"]["what"] == "waiting"
    for identifier in (first, second):
        state = client.post(f"faces/{identifier}/stop", {}).json
        assert (state["phase"], state["message"]) == ("failed", "stopped")


def test_localhost_and_a_tunnels_port_are_this_machine_too(client: Client) -> None:
    for host in ("localhost:8000", "127.0.0.1", "localhost"):
        assert client.ask("GET", "studio.json", headers={"Host": host}).status == 200
    own = f"http://127.0.0.1:{client.address[1]}"
    assert client.ask("GET", "studio.json", headers={"Origin": own}).status == 200


def test_the_address_without_its_last_slash(client: Client) -> None:
    answer = client.ask("GET", "", base=client.base.rstrip("/"))
    assert (answer.status, answer.headers["Location"]) == (307, client.base)


# Bad uploads


def bombed(tmp_path: Path) -> bytes:
    bomb(tmp_path / "bomb.png")
    return (tmp_path / "bomb.png").read_bytes()


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(client: Client, case: str) -> None:
    data, name, message = BAD_FILES[case]
    answer = client.upload(data, name)
    assert answer.status == 422
    assert message in answer.json["error"]
    assert answer.json["error"].startswith(name)  # by its own name, not by that of our copy
    assert client.get("studio.json").json["faces"] == []


def test_a_bomb(client: Client, tmp_path: Path) -> None:
    answer = client.upload(bombed(tmp_path), "bomb.png")
    assert answer.status == 422
    assert "too many pixels" in answer.json["error"]


def test_a_latent_of_another_generator(client: Client, tmp_path: Path) -> None:
    import torch

    Latent(torch.zeros(1, 8, 512), "other", "0" * 16).save(tmp_path / "x.latent.safetensors")
    answer = client.upload((tmp_path / "x.latent.safetensors").read_bytes(), "x.latent.safetensors")
    assert answer.status == 422
    assert "belongs to generator other" in answer.json["error"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ""]
)
def test_wrong_kinds(client: Client, kind: str) -> None:
    answer = client.upload(picture_bytes(), kind=kind)
    assert answer.status == 415
    assert "send the photo itself" in answer.json["error"]


def test_too_large_by_its_own_word(client: Client) -> None:
    head = f"POST {client.base}faces HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    answer = client.raw(f"{head}Content-Length: {MAX_UPLOAD + 1}\r\n\r\nx".encode())
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"too large: at most 64 MB" in answer


def test_too_large_without_a_word(client: Client) -> None:
    head = f"POST {client.base}faces HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    block = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    answer = client.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + block * ((MAX_UPLOAD >> 20) + 2))
    # The server may hang up while it is still being sent to: then there is no answer to read.
    assert not answer or answer.startswith(b"HTTP/1.1 413")


def test_an_upload_that_breaks_off(client: Client) -> None:
    head = f"POST {client.base}faces HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    with socket.create_connection(client.address, timeout=_PATIENCE) as connection:
        connection.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + bytes(500))
    deadline = time.monotonic() + 10
    while list(client.studio.folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "..\\..\\boot.ini", "%2e%2e%2fpasswd", "a\0b.jpg"]
)
def test_names_with_paths_are_only_names(client: Client, name: str) -> None:
    answer = client.upload(picture_bytes(), name)
    assert answer.status == 201
    session = client.studio.session(answer.json["id"])
    assert session.photo.parent == client.studio.folder
    assert not {"/", "\\", "\0"} & set(answer.json["name"])


def test_too_many_faces(client: Client) -> None:
    for _ in range(MOST_FACES):
        client.sample()
    answer = client.upload(picture_bytes())
    assert answer.status == 409
    assert "close one first" in answer.json["error"]


# Bad addresses and strangers


@pytest.mark.parametrize("base", ["/", "/x/", "/faces/", "//", "/%00/"])
def test_without_the_token(client: Client, base: str) -> None:
    for method, path in (("GET", ""), ("GET", "studio.json"), ("POST", "samples")):
        answer = client.ask(method, path, base=base)
        assert answer.status == 403
        assert "open the address" in answer.json["error"]


def test_a_wrong_token(client: Client) -> None:
    token = client.base.strip("/")
    for wrong in (token[:-1], token + "x", token[:-1] + ("a" if token[-1] != "a" else "b"), token.swapcase(), "é" * 32):
        assert client.ask("GET", "studio.json", base=f"/{quote(wrong)}/").status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil", "[::1]", ""]
)
def test_another_host(client: Client, host: str) -> None:
    answer = client.ask("GET", "studio.json", headers={"Host": host})
    assert answer.status == 403
    assert "127.0.0.1" in answer.json["error"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_another_sites_page(client: Client, origin: str) -> None:
    for method, path in (("GET", "studio.json"), ("POST", "samples")):
        assert client.ask(method, path, headers={"Origin": origin}).status == 403
    assert client.ask("POST", "samples", headers={"Sec-Fetch-Site": "cross-site"}).status == 403


@pytest.mark.parametrize(
    "path",
    ["static/../app.py", "static/..%2fapp.py", "static/%2e%2e%2fapp.py", "static//etc/passwd", "static/", "static/x",
     "../static/main.js", "faces/x/files/../../../etc/passwd", "faces", "none"],
)  # fmt: skip
def test_addresses_that_lead_nowhere(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status in (403, 404, 405)
    assert answer.json["error"]


def test_huge_headers(client: Client) -> None:
    answer = client.raw(f"GET {client.base} HTTP/1.1\r\nHost: localhost\r\nX: {'x' * 300_000}\r\n\r\n".encode())
    assert not answer or answer.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"\0" * 100, b"POST / HTTP/9.9\r\n\r\n"])
def test_what_is_not_http(client: Client, data: bytes) -> None:
    assert not client.raw(data).startswith(b"HTTP/1.1 2")


# Bad looks


BAD_LOOKS = {
    "not a number": ('{"alphas": {"%s": NaN}}', 422, "strength"),
    "infinite": ('{"alphas": {"%s": -Infinity}}', 422, "strength"),
    "far off": ('{"alphas": {"%s": 1e308}}', 422, "from -5 to 5"),
    "a text": ('{"alphas": {"%s": "2"}}', 422, "strength"),
    "many digits": ('{"alphas": {"%s": ' + "9" * 5000 + "}}", 400, "not JSON"),
    "unknown attribute": ('{"alphas": {"smirk": 1}}', 422, "unknown attribute 'smirk'"),
    "unknown style": ('{"style": "../klimt"}', 422, "unknown style"),
    "strong style": ('{"style_strength": 2}', 422, "strength of the style"),
    "unmeasured hold": ('{"holds": ["%s"]}', 422, "cannot be held"),
    "no object": ("[1, 2]", 422, "a look is"),
    "not JSON": ("alphas=1", 400, "not JSON"),
    "cut off": ('{"alphas": {', 400, "not JSON"),
    "deep": ("[" * 8000, 400, "not JSON"),
    "not UTF-8": (b'"\xff\xfe\xfa"'.decode("latin-1"), 400, "not JSON"),
    "long": (" " * (MAX_JSON + 1), 413, "too long"),
}


@pytest.mark.parametrize("case", BAD_LOOKS)
def test_bad_looks(client: Client, case: str) -> None:
    text, status, message = BAD_LOOKS[case]
    identifier = client.sample()
    data = text.replace("%s", client.bright).encode("latin-1")
    for path in ("look", "preview"):
        answer = client.send_json(f"faces/{identifier}/{path}", data)
        assert answer.status == status
        if (case, path) != ("no object", "preview"):
            assert message in answer.json["error"]
    assert not client.get(f"faces/{identifier}").json["can_undo"]


@pytest.mark.parametrize("side", [0, -1, 257, 100_000, "256", None, [256], 256.5])
def test_bad_sides(client: Client, side: object) -> None:
    answer = client.post(f"faces/{client.sample()}/preview", {"alphas": {}, "side": side})
    assert answer.status == 422
    assert "256, 512" in answer.json["error"]


@pytest.mark.parametrize("seed", [-1, 10_000, 1.5, "1", None, True, [1]])
def test_bad_seeds(client: Client, seed: object) -> None:
    assert client.post("samples", {"seed": seed}).status == 422


def test_a_form_of_another_site_could_not_ask(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert client.ask("POST", "samples", b'{"seed": 1}', {"Content-Type": kind}).status == 415


def test_faces_that_are_not_open(client: Client) -> None:
    for method, path in (("GET", ""), ("POST", "/undo"), ("POST", "/look"), ("GET", "/picture.jpg"), ("DELETE", "")):
        answer = client.ask(method, f"faces/none{path}", b"{}", {"Content-Type": "application/json"})
        assert answer.status == 404
        assert "not open" in answer.json["error"]


def test_what_there_is_nothing_of(client: Client) -> None:
    identifier = client.sample()
    expected = {"before.jpg": 404, "files/photo": 422, "files/clip": 422, "files/passwd": 404}
    assert {path: client.get(f"faces/{identifier}/{path}").status for path in expected} == expected
    assert client.post(f"faces/{identifier}/explode", {}).status == 404
    assert client.ask("PUT", f"faces/{identifier}").status == 405


def test_a_bug_is_an_answer_and_not_the_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    identifier = client.sample()

    def stumble(size: int | None = None) -> None:
        raise RuntimeError("a bug at /home/me")

    monkeypatch.setattr(client.studio.session(identifier), "picture", stumble)
    answer = client.get(f"faces/{identifier}/picture.jpg")
    assert answer.status == 500
    assert "RuntimeError" in answer.json["error"]
    assert "/home/me" not in answer.json["error"]
