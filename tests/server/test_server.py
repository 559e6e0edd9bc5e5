"""A server in a thread and real websockets: what players get, and what they cannot do to each other."""

import io
import logging
import time
import urllib.error
import urllib.request

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from server_kit import pixels, restarted
from tiny import NAMES
from websockets.exceptions import ConnectionClosed, InvalidStatus

import worldsim  # noqa: F401 - registers the ids
from worldsim.server.seat import ON_THE_WAY


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return answer.read(), answer.headers


def test_held_keys_become_the_frames_of_the_environment_byte_for_byte(server, world):
    with server.player() as player:
        assert player.hello()["controls"]["up"] == ["up"]
        _, first = restarted(player)
        env = gym.make("worldsim/World-v0", world=world)
        assert np.array_equal(pixels(first), env.reset(seed=8)[0])
        for step, held in enumerate((("up",), ("up", "space")), start=1):
            player.hold(*held, commands=("single",))
            header, image = player.pictures_until(lambda header, step=step: header["step"] == step)
            wanted, *_ = env.step(NAMES.index("UPFIRE" if "space" in held else "UP"))
            assert np.array_equal(pixels(image), wanted) and header["answers"] == player.number


def test_a_key_that_is_let_go_at_once_still_counts_for_one_frame(server, world):
    with server.player() as player:
        player.hello()
        restarted(player)
        player.hold("down")
        player.hold(commands=("single",))
        _, image = player.pictures_until(lambda header: header["step"] == 1)
        env = gym.make("worldsim/World-v0", world=world)
        env.reset(seed=8)
        assert np.array_equal(pixels(image), env.step(NAMES.index("DOWN"))[0])


def test_two_players_have_a_world_each(server):
    with server.player() as one, server.player() as other:
        one.hello(), other.hello()
        one.hold(commands=("4", "pause"))
        other.hold(commands=("new",))
        header, _ = one.pictures_until(lambda header: header["mode"] == "pause")
        moved, _ = other.pictures_until(lambda header: header["seed"] == 8 and header["step"] > 3)
        assert (header["seed"], header["steps"]) == (7, 4) and moved["steps"] == 2


def test_a_third_player_is_told_that_all_seats_are_taken_until_one_leaves(server):
    with server.player() as one, server.player() as other:
        one.hello(), other.hello()
        with server.player() as third, pytest.raises(ConnectionClosed) as closed:
            third.hello()
        assert closed.value.rcvd.code == 1013 and "all 2 seats are taken" in closed.value.rcvd.reason
    with server.player() as again:
        assert again.hello()["title"] == "Tiny"


def test_a_page_that_shows_nothing_gets_no_more_and_then_the_newest(server):
    with server.player() as player:
        player.hello()
        for _ in range(ON_THE_WAY):
            header, _ = player.picture(acknowledge=False)
        with pytest.raises(TimeoutError):
            player.socket.recv(timeout=0.7)
        player.socket.send(f'{{"shown": {ON_THE_WAY}}}')
        later, _ = player.picture(acknowledge=False)
        assert later["step"] > header["step"] + 2  # what was painted meanwhile was never queued


def test_rewind_is_held_like_any_key(server):
    with server.player() as player:
        player.hello()
        player.pictures_until(lambda header: header["step"] > 20)
        player.hold("backspace")
        rewinding, _ = player.pictures_until(lambda header: header["mode"] == "rewind")
        earlier, _ = player.pictures_until(lambda header: header["step"] < rewinding["step"] - 5)
        player.hold()
        played, _ = player.pictures_until(lambda header: header["mode"] == "play")
        assert played["step"] <= earlier["step"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no json", "no JSON"),
        ("[" * 1500, "no JSON"),
        ("[]", "another form"),
        ('{"jump": 1}', "another form"),
        ('{"number": 1, "held": ["fly"]}', "unknown name 'fly' in 'held'; this world takes up, down"),
        ('{"number": 1, "commands": ["save"]}', "unknown name 'save' in 'commands'"),
        ('{"number": NaN}', "'number' must be a whole number"),
        ('{"number": 1, "held": "up"}', "'held' must be a list"),
        ('{"shown": 99999}', "pictures shown of"),
    ],
)
def test_a_bad_message_is_answered_by_one_line_and_the_game_goes_on(server, text, line):
    with server.player() as player:
        player.hello()
        player.socket.send(text)
        told = player.error()
        assert line in told and "\n" not in told
        player.hold("up")
        player.pictures_until(lambda header: header["answers"] == 1)


def test_a_binary_message_is_a_bad_one(server):
    with server.player() as player:
        player.hello()
        player.socket.send(b"\x00\xff")
        assert "no JSON" in player.error()


@pytest.mark.parametrize(("texts", "code"), [(["x" * 4000], 1009), (['{"shown": 0}'] * 500, 1008)])
def test_too_much_closes_one_player_and_leaves_the_other_alone(server, texts, code):
    with server.player() as steady:
        steady.hello()
        with server.player() as rude:
            rude.hello()
            with pytest.raises(ConnectionClosed) as closed:
                for text in texts:
                    rude.socket.send(text)
                while True:
                    rude.socket.recv(timeout=20)
            assert closed.value.rcvd.code == code
        before, _ = steady.picture()
        steady.pictures_until(lambda header: header["step"] > before["step"] + 5)


def test_a_vanished_page_frees_its_seat(server):
    for _ in range(4):
        with server.player() as player:
            player.hello()
            player.socket.socket.close()


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_a_page_of_another_origin_cannot_play(server, origin):
    with pytest.raises(InvalidStatus) as refused, server.player(origin=origin):
        pass
    assert refused.value.response.status_code == 403 and b"open its page" in refused.value.response.body


def test_an_unknown_place_on_the_menu_is_refused(server):
    with pytest.raises(InvalidStatus) as refused, server.player(place=5):
        pass
    assert b"no world 5" in refused.value.response.body


def test_who_is_refused_leaves_no_error_in_the_servers_terminal(server):
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    log = logging.getLogger("uvicorn.error")
    log.addHandler(handler)
    with pytest.raises(InvalidStatus), server.player(origin="http://evil.example"):
        pass
    time.sleep(0.2)
    log.removeHandler(handler)
    assert told == []


def test_a_name_that_was_made_to_lead_here_gets_no_page(server):
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        get(server.url, Host="evil.example:8000")
    assert "not this machine" in refused.value.read().decode()


def test_the_page_and_its_parts_come_from_here_only(server):
    page, headers = get(server.url)
    assert b"<canvas" in page and "default-src 'none'" in headers["Content-Security-Policy"]
    for part in ("main.js", "keys.js", "touch.js", "link.js", "meter.js", "style.css"):
        text = get(f"{server.url}static/{part}")[0].decode()
        assert len(text) > 300 and "http://" not in text and "https://" not in text and "//cdn" not in text
    assert Image.open(io.BytesIO(get(f"{server.url}worlds/0/picture")[0])).size == (64, 48)


def test_an_open_address_demands_the_token(world, serving, one_thread):
    with serving(world, host="0.0.0.0") as server:
        token = server.door.token
        assert len(token) >= 32 and server.url.endswith(f"/?token={token}")
        assert b"<canvas" in get(server.url)[0]
        for wrong in ("", "?token=", f"?token={token[:-1]}", "?token=%F0%9F%90%88"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                get(f"http://{server.host}/{wrong}")
        with pytest.raises(InvalidStatus), server.player():
            pass
        with server.player(place=f"0?token={token}") as player:
            assert player.hello()["width"] == 64


@pytest.mark.parametrize("loading_s", [0, 1.5])
def test_an_idle_player_must_leave_though_the_page_goes_on_but_not_while_the_world_loads(
    world, serving, one_thread, monkeypatch, loading_s
):
    from worldsim.server.catalog import Catalog

    opened = Catalog.open
    monkeypatch.setattr(Catalog, "open", lambda self, place: time.sleep(loading_s) or opened(self, place))
    with serving(world, "--idle", "0.5") as server, server.player() as player:
        player.hello()
        began = time.monotonic()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                player.picture()
        assert closed.value.rcvd.code == 4000 and 0.3 < time.monotonic() - began < 10


def test_a_game_that_breaks_says_why_to_its_player_only(world, serving, one_thread, monkeypatch):
    from worldsim.player.game import Game

    with serving(world) as server, server.player() as steady:
        steady.hello()
        turn = Game.turn

        def broken(self, keys, show):
            if "space" in keys.active:
                raise ValueError("the network\nbroke")
            turn(self, keys, show)

        monkeypatch.setattr(Game, "turn", broken)
        with server.player() as player, pytest.raises(ConnectionClosed) as closed:
            player.hello()
            player.hold("space")
            while True:
                player.picture()
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, "the network broke")
        before, _ = steady.picture()
        steady.pictures_until(lambda header: header["step"] > before["step"] + 3)
