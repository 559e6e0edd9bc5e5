"""Play in a browser on the same machine.

worldsim serve boxing                        prints the address to open
worldsim serve                               a menu of the shipped worlds, where there are several
worldsim serve boxing --host 0.0.0.0         for other machines too; the address then holds a token
worldsim serve boxing --measure 60           key to changed pixel in a headless Chromium, as JSON
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import socket
import sys
from pathlib import Path

from worldsim.arguments import add_compile, natural, positive
from worldsim.player.undisturbed import undisturbed
from worldsim.worlds import list_worlds

PORT, PORT_MOST = 8000, 65535
SHUTDOWN_S = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `worldsim serve`."""
    parser.add_argument("world", nargs="?", help="a shipped world or a folder (default: a menu, if there are several)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=natural, default=PORT, help=f"default: {PORT}; 0 takes any free one")
    parser.add_argument("--sessions", type=positive(int), default=4, help="players at a time (default: 4)")
    idle = "seconds without a key after which a player must leave (default: 300)"
    parser.add_argument("--idle", type=positive(float), default=300, help=idle)
    parser.add_argument("--steps", type=int, help="denoising steps a frame: 1, 2 or 4 (default: the world's own)")
    parser.add_argument("--fps", type=positive(float), help="full speed, frames per second (default: the game's own)")
    parser.add_argument("--seed", type=natural, help="of each player's first round (default: a new one each time)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    add_compile(parser)
    measure = "press keys in a headless Chromium, print the times as JSON and end"
    parser.add_argument("--measure", type=positive(float), metavar="SECONDS", help=measure)
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --measure: write the JSON here, too")
    parser.add_argument("--chromium", type=Path, metavar="PATH", help="with --measure: the browser (default: found)")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted, or measure."""
    # Threads that wait by spinning stall for seconds where another program wants the same cores. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if args.measure is not None and args.world is None:
        raise ValueError("--measure plays one world; name it: worldsim serve boxing --measure 60")
    if args.measure is None and (args.json is not None or args.chromium is not None):
        raise ValueError("--json and --chromium go with --measure: worldsim serve boxing --measure 60 --json out.json")
    from worldsim.server.door import door_for

    door = door_for(args.host)
    with listen(args.host, args.port) as listener:
        server = make_server(args, door)
        url = address(args.host, listener.getsockname()[1], door.token)
        if args.measure is not None:
            return _measure(args, server, listener, url)
        print(f"open {url} in a browser; Ctrl+C ends it", flush=True)
        with undisturbed():
            server.run(sockets=[listener])
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; OSError in one line where the port is taken or the address is not this machine's."""
    if port > PORT_MOST:
        raise OSError(f"cannot listen on {host}, port {port}; ports go up to {PORT_MOST}, and 0 takes any free one")
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise OSError(f"cannot listen on {host}, port {port} ({error}); use an address of this machine") from None
    listener = socket.socket(family, kind)
    try:
        if os.name == "posix":  # elsewhere it would take the port from whoever has it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(64)
    except OSError as error:
        listener.close()
        is_foreign = error.errno == errno.EADDRNOTAVAIL
        way_out = "use an address of this machine" if is_foreign else "try --port 0 for any free one"
        raise OSError(f"cannot listen on {host}, port {port} ({error}); {way_out}") from None
    return listener


def address(host: str, port: int, token: str | None) -> str:
    """What to open in a browser. An address that stands for all of a machine's is shown as the machine's name."""
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def make_server(args: argparse.Namespace, door):
    """A `uvicorn.Server` ready to run.

    A single world is loaded now, so that its faults show before any player; compiled ones are, so that none waits.
    """
    import uvicorn

    from worldsim.server.app import Settings, create_app
    from worldsim.server.catalog import Catalog
    from worldsim.server.messages import MESSAGE_BYTES

    worlds = [args.world] if args.world is not None else list_worlds()
    if not worlds:
        raise FileNotFoundError("no world is shipped with this installation; give a folder that a training run wrote")
    catalog = Catalog(worlds, fps=args.fps, steps=args.steps, device=args.device, compile=args.compile)
    for place, world in enumerate(worlds if len(worlds) == 1 or args.compile else ()):
        print(f"loading {world} ...", file=sys.stderr)
        catalog.open(place).close()
    app = create_app(catalog, door, Settings(args.sessions, args.idle, args.fps, args.seed))
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # it would write tokens
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,  # pictures do not compress again
        limit_concurrency=64 + 8 * args.sessions,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_refusal)
    return uvicorn.Server(config)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's log is not of a refused websocket, which it calls an error; the page is told why."""
    return "without completing handshake" not in record.getMessage()


def _measure(args: argparse.Namespace, server, listener: socket.socket, url: str) -> int:
    from worldsim.server.measure import measure
    from worldsim.server.running import running

    with undisturbed(), running(server, listener):
        report = measure(url, seconds=args.measure, chromium=args.chromium)
    text = json.dumps(report, indent=1)
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0
