"""A real server of a tiny world in a thread, and its players."""

import argparse
import json
from contextlib import contextmanager

import pytest
from tiny import save_tiny_world

for package in ("fastapi", "uvicorn", "websockets"):
    pytest.importorskip(package)

from websockets.sync.client import connect  # noqa: E402

from worldsim import serve  # noqa: E402
from worldsim.server.door import door_for  # noqa: E402
from worldsim.server.messages import unpacked  # noqa: E402
from worldsim.server.running import running  # noqa: E402

WAIT_S = 20


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return str(save_tiny_world(tmp_path_factory.mktemp("world")))


class Server:
    """Where a server listens, and how to play there."""

    def __init__(self, port, door):
        self.host, self.door = f"127.0.0.1:{port}", door
        self.url = serve.address("127.0.0.1", port, door.token)

    @contextmanager
    def player(self, **options):
        options = {"origin": f"http://{self.host}", "compression": None, **options}
        with connect(f"ws://{self.host}/play/{options.pop('place', 0)}", open_timeout=WAIT_S, **options) as socket:
            yield Player(socket)


class Player:
    """A page without a browser: it acknowledges each picture unless told not to."""

    def __init__(self, socket):
        self.socket, self.shown, self.number = socket, 0, 0

    def hello(self):
        return json.loads(self.socket.recv(timeout=WAIT_S))

    def picture(self, *, acknowledge=True):
        while isinstance(message := self.socket.recv(timeout=WAIT_S), str):
            pass
        if acknowledge:
            self.shown += 1
            self.socket.send(json.dumps({"shown": self.shown}))
        return unpacked(message)

    def pictures_until(self, wanted):
        for _ in range(400):
            header, image = self.picture()
            if wanted(header):
                return header, image
        raise AssertionError(f"no such picture; the last was {header}")

    def hold(self, *held, commands=()):
        self.number += 1
        self.socket.send(json.dumps({"number": self.number, "held": held, "commands": commands}))

    def error(self):
        while not isinstance(message := self.socket.recv(timeout=WAIT_S), str):
            pass
        return json.loads(message)["error"]


@contextmanager
def served(*argv, host="127.0.0.1"):
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    args = parser.parse_args([*argv, "--seed", "7"])
    door = door_for(host)
    with serve.listen("127.0.0.1", 0) as listener:
        with running(serve.make_server(args, door), listener):
            yield Server(listener.getsockname()[1], door)


@pytest.fixture(scope="module")
def server(world, one_thread):
    with served(world, "--fps", "60", "--sessions", "2") as server:
        yield server


@pytest.fixture(scope="session")
def serving():
    """`served`, for a server of a test's own."""
    return served


@pytest.fixture(scope="session")
def chromium():
    """The executable of an installed Chromium."""
    from worldsim.server.measure import find_chromium

    try:
        return find_chromium()
    except FileNotFoundError as reason:
        pytest.skip(str(reason))
