"""The server's parts by themselves, and the command's errors."""

import socket
import sys
import threading
import time

import numpy as np
import pytest

from worldsim import serve
from worldsim.cli import main
from worldsim.player.game import Game
from worldsim.server import messages
from worldsim.server.allowance import Allowance
from worldsim.server.door import Door, door_for, is_loopback
from worldsim.server.seat import Seat
from worldsim.shelf import entry
from worldsim_envs.env import WorldEnv


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_a_loopback_address_needs_no_token(host):
    assert is_loopback(host) and door_for(host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "", "example.org"])
def test_any_other_address_gets_a_new_token(host):
    assert door_for(host).token != door_for(host).token


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:9", "[::1]:8000"])
def test_a_players_origin_must_be_the_host_it_asked(host):
    door = Door()
    assert door.refuses_player(host, f"http://{host}", "") is None
    assert "origin" in door.refuses_player(host, f"http://{host}0", "")
    assert "origin" in door.refuses_player(host, "", "")
    assert "origin" in door.refuses_player("", "http://", "")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "[", "", "127.0.0.1.evil.example:80"])
def test_a_strangers_name_is_refused_even_from_its_own_origin(host):
    assert Door().refuses_player(host, f"http://{host}", "") is not None


def test_an_allowance_refills_with_time_up_to_its_burst():
    now = [0.0]
    allowance = Allowance(10, 3, lambda: now[0])
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 0.1
    assert [allowance.take() for _ in range(2)] == [True, False]
    now[0] = 60
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]


def test_small_frames_travel_without_loss_and_large_ones_as_jpeg():
    rng = np.random.default_rng(0)
    small = messages.encoded(rng.integers(0, 256, (48, 64, 3), np.uint8))
    large = messages.encoded(rng.integers(0, 256, (480, 640, 3), np.uint8))
    assert small.startswith(b"\x89PNG") and large.startswith(b"\xff\xd8")


def test_a_menu_entry_has_the_worlds_first_start_as_its_picture(world):
    made = entry(world)
    assert (made.title, made.detail) == ("Tiny", "64x48, 15 frames a second")
    assert np.array_equal(made.picture, WorldEnv(world).model.starts.frames[0, 0])


def error_line(capsys, *argv):
    assert main(["serve", *argv]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("worldsim: ")
    return line


def test_a_taken_port_is_one_line(world, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1, port {port}" in error_line(capsys, world, "--port", str(port))


@pytest.mark.parametrize(
    ("option", "value", "way_out"),
    [
        ("--port", "99999", "up to 65535"),
        ("--host", "no such host", "of this machine"),
        ("--host", "192.0.2.1", "of this"),
    ],
)
def test_an_impossible_address_is_one_line_with_a_way_out(world, capsys, option, value, way_out):
    line = error_line(capsys, world, option, value)
    assert "cannot listen on" in line and way_out in line


def test_an_unknown_world_is_one_line(capsys):
    assert "unknown world 'nosuchworld'" in error_line(capsys, "nosuchworld", "--port", "0")


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_extra_says_how_to_get_it(world, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "worldsim.server.app", raising=False)
    line = error_line(capsys, world, "--port", "0")
    assert line == f'worldsim: {package} is not installed; run: pip install "worldsim[serve]"'


@pytest.mark.parametrize("argv", [["boxing", "--json", "x.json"], ["--measure", "5"]])
def test_options_of_measuring_go_together(capsys, argv):
    assert "worldsim serve boxing --measure 60" in error_line(capsys, *argv)


def test_the_address_of_all_interfaces_is_shown_as_the_machines_name():
    assert serve.address("0.0.0.0", 80, "abc") == f"http://{socket.gethostname()}:80/?token=abc"
    assert serve.address("::1", 80, None) == "http://[::1]:80/"


def test_a_server_of_compiled_worlds_compiles_before_any_player_comes(world, serving, no_compiler):
    with pytest.warns(UserWarning, match="playing without"):
        with serving(world, "--compile") as server, server.player() as player:
            assert player.hello()["controls"]["up"] == ["up"]


def test_a_picture_is_on_its_way_before_its_frame_is_committed(world):
    env, seat = WorldEnv(world), Seat(lambda: None)
    on_its_way, waited = threading.Event(), []
    commit = env.commit

    def late_commit():
        waited.append(on_its_way.wait(20))
        return commit()

    def make_game():
        game = Game(env, world=world, seed=7)
        env.commit = late_commit
        return game

    playing = threading.Thread(target=seat.play, args=(make_game,))
    playing.start()
    while playing.is_alive() and not isinstance(seat.next_message(), bytes):
        time.sleep(0.005)
    on_its_way.set()
    seat.leave()
    playing.join()
    assert waited and all(waited)
