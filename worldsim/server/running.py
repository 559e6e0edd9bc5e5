"""A server at work in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


@contextlib.contextmanager
def running(server, listener: socket.socket) -> Iterator[None]:
    """A `uvicorn.Server` at work in a thread."""
    thread = threading.Thread(target=server.run, args=([listener],), name="worldsim-server", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise OSError("the server ended before it began to serve")
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()
