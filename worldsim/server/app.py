"""The web server's pages, and the websocket through which a page plays."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

from worldsim.player.game import Game
from worldsim.server import messages
from worldsim.server.allowance import Allowance
from worldsim.server.catalog import Catalog
from worldsim.server.door import Door
from worldsim.server.seat import Seat

PAGE = Path(str(files("worldsim.server") / "page"))
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
MESSAGES_PER_S, MESSAGES_AT_ONCE = 150, 300
"""A page at 60 frames a second acknowledges each and sends a few keys."""
SEAT_WAIT_S = 3
"""Time that a player waits for a seat: one who reloads the page still has the old one for a moment."""
CLOSE_S = 2

BUSY, IDLE, TOO_MANY, FAILED = 1013, 4000, 1008, 1011
"""Close codes: of RFC 6455, and one of our own."""


@dataclass(frozen=True)
class Settings:
    """How games are played here."""

    sessions: int = 4
    """Games at a time."""
    idle_s: float = 300
    """A player who presses nothing for so long must leave the seat."""
    fps: float | None = None
    """Full speed; None takes each world's own."""
    seed: int | None = None
    """Of every player's first round; None draws one for each."""


def create_app(catalog: Catalog, door: Door, settings: Settings) -> FastAPI:
    """The web application. Pages and websocket refuse whom `door` refuses."""
    hall = Hall(catalog, settings)
    app = FastAPI(title="worldsim", docs_url=None, redoc_url=None, openapi_url=None, lifespan=hall.lifespan)

    @app.middleware("http")
    async def check(request: Request, call_next):
        token = request.query_params.get("token", "")
        open_to_all = request.url.path.startswith("/static/")  # a page's parts; nothing in them is secret
        refusal = None if open_to_all else door.refuses_page(request.headers.get("host", ""), token)
        response = await call_next(request) if refusal is None else PlainTextResponse(refusal + "\n", 403)
        response.headers.update(HEADERS)
        return response

    @app.get("/")
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @app.get("/worlds")
    async def worlds() -> Response:
        return JSONResponse([{"title": each.title, "detail": each.detail} for each in catalog.entries])

    @app.get("/worlds/{place}/picture")
    async def picture(place: int) -> Response:
        if not 0 <= place < len(catalog.entries):
            return PlainTextResponse(f"there is no world {place}\n", 404)
        return Response(messages.png(catalog.entries[place].picture), media_type="image/png")

    @app.websocket("/play/{place}")
    async def play(socket: WebSocket, place: int) -> None:
        host, origin = (socket.headers.get(name, "") for name in ("host", "origin"))
        refusal = door.refuses_player(host, origin, socket.query_params.get("token", ""))
        if refusal is None and not 0 <= place < len(catalog.entries):
            refusal = f"there is no world {place}"
        if refusal is not None:
            await socket.send_denial_response(PlainTextResponse(refusal + "\n", 403))
            return
        await hall.seat(socket, place)

    app.mount("/static", StaticFiles(directory=PAGE))
    return app


class Hall:
    """The seats of one server."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog, self._settings = catalog, settings
        self._free = asyncio.Semaphore(settings.sessions)
        self._threads = ThreadPoolExecutor(settings.sessions, thread_name_prefix="worldsim-seat")

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """While the server runs."""
        yield
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def seat(self, socket: WebSocket, place: int) -> None:
        """Let one player play until they leave, fall idle or break the rules. Nothing of it reaches another."""
        await socket.accept()
        try:
            await asyncio.wait_for(self._free.acquire(), SEAT_WAIT_S)
        except TimeoutError:
            await _close(socket, BUSY, f"all {self._settings.sessions} seats are taken; try again later")
            return
        here, news = asyncio.get_running_loop(), asyncio.Event()
        seat = Seat(lambda: _tell(here, news))
        playing = here.run_in_executor(self._threads, seat.play, lambda: self._game(place))
        playing.add_done_callback(lambda _: self._free.release())  # not before the game's threads have ended
        talk = [asyncio.create_task(each) for each in (self._listen(socket, seat), _send(socket, seat, news))]
        try:
            await asyncio.wait([*talk, playing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            seat.leave()
            for task in talk:
                task.cancel()
        await _close(socket, *_why(playing, talk))

    def _game(self, place: int) -> Game:
        settings, world = self._settings, self._catalog.entries[place].world
        seed = secrets.randbelow(10_000) if settings.seed is None else settings.seed
        return Game(self._catalog.open(place), world=world, fps=settings.fps, seed=seed)

    async def _listen(self, socket: WebSocket, seat: Seat) -> tuple[int, str] | None:
        """Hand on what the page says. Returns close code and reason where it must stop, None where the page is gone."""
        allowance = Allowance(MESSAGES_PER_S, MESSAGES_AT_ONCE)
        active = time.monotonic()
        while True:
            try:
                left = active + self._settings.idle_s - time.monotonic()
                message = await asyncio.wait_for(socket.receive(), max(left, 0))
            except TimeoutError:
                since = time.monotonic() if seat.began_at is None else seat.began_at
                if active >= since:
                    return IDLE, f"no key for {self._settings.idle_s:g} seconds"
                active = since  # nobody can press a key while a world loads
                continue
            if message["type"] == "websocket.disconnect":
                return None
            if not allowance.take():
                return TOO_MANY, f"too many messages; at most {MESSAGES_PER_S} a second"
            if seat.hear(message.get("text") or ""):
                active = time.monotonic()


async def _send(socket: WebSocket, seat: Seat, news: asyncio.Event) -> None:
    """Send what the seat has; returns where the page is gone."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await news.wait()
            news.clear()
            while (message := seat.next_message()) is not None:
                await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))


def _why(playing: asyncio.Future, talk: list[asyncio.Task]) -> tuple[int, str]:
    """Close code and reason: of what ended a game by itself, else of what the listener said."""
    if playing.done() and playing.exception() is not None:
        return FAILED, " ".join(str(playing.exception()).split())
    listener = talk[0]
    told = listener.result() if listener.done() and not listener.cancelled() else None
    return told or (1000, "")


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Close, unless the page is gone or takes nothing any more. A reason has 123 bytes at most (RFC 6455, 5.5)."""
    short = reason.encode()[:123].decode(errors="ignore")
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        await asyncio.wait_for(socket.close(code, short), CLOSE_S)


def _tell(here: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the server's loop has ended; nobody waits for news
        here.call_soon_threadsafe(news.set)
