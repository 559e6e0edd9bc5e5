"""Several players at once: each has a game of their own, and none reaches into another's."""

import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import numpy as np
import pytest
from server_kit import pixels, restarted
from tiny import NAMES
from websockets.exceptions import ConnectionClosed

import worldsim  # noqa: F401 - registers the ids
from worldsim_envs.env import WorldEnv

FRAMES = 8


def script(name):
    """Keys and the native actions that they stand for, other ones for each player."""
    rng = np.random.default_rng(len(name))
    keys = [tuple(rng.choice([name, "space"], rng.integers(1, 3), replace=False)) for _ in range(FRAMES)]
    spoken = {(name,): name.upper(), ("space",): "FIRE"}
    return keys, [NAMES.index(spoken.get(held, f"{name.upper()}FIRE")) for held in keys]


def play(player, keys):
    """The frames of a fresh round under those keys, one by one."""
    _, first = restarted(player)
    frames = [pixels(first)]
    for step, held in enumerate(keys, start=1):
        player.hold(*held, commands=("single",))
        _, image = player.pictures_until(lambda header, step=step: header["step"] == step)
        frames.append(pixels(image))
    return frames


def alone(world, actions):
    env = gym.make("worldsim/World-v0", world=world)
    return [env.reset(seed=8)[0], *(env.step(action)[0] for action in actions)]


def same(frames, others):
    return len(frames) == len(others) and all(map(np.array_equal, frames, others))


def test_players_at_once_each_get_the_frames_of_their_own_keys_to_the_byte(world, serving, one_thread):
    scripts = [script(name) for name in ("up", "down", "left")]
    with serving(world, "--fps", "60", "--sessions", "3") as server, ThreadPoolExecutor(3) as threads:

        def one(keys):
            with server.player() as player:
                player.hello()
                at_the_table.wait(20)
                return play(player, keys)

        at_the_table = threading.Barrier(3)
        shown = list(threads.map(one, [keys for keys, _ in scripts]))
    for frames, (_, actions) in zip(shown, scripts, strict=True):
        assert same(frames, alone(world, actions))
    assert not same(shown[0], shown[1])


def test_of_those_who_come_at_once_no_more_play_than_there_are_seats(world, serving, one_thread, monkeypatch):
    from worldsim.server import app

    monkeypatch.setattr(app, "SEAT_WAIT_S", 0.3)
    with serving(world, "--sessions", "2") as server, ThreadPoolExecutor(5) as threads:

        def one(_):
            with server.player() as player:
                try:
                    return player.hello()["title"]
                except ConnectionClosed as closed:
                    return closed.rcvd.code
                finally:
                    all_are_told.wait(20)

        all_are_told = threading.Barrier(5)
        assert sorted(threads.map(one, range(5)), key=str) == [1013, 1013, 1013, "Tiny", "Tiny"]
        all_are_told.reset()
        with server.player() as again:
            assert again.hello()["title"] == "Tiny"


class Brush:
    """Stops whoever paints under the action FIRE in the middle of the frame."""

    def __init__(self, monkeypatch):
        self.painting, self.go_on = threading.Event(), threading.Event()
        self.painters, paint = [], WorldEnv.paint

        def held_up(env, action):
            if action == NAMES.index("FIRE"):
                self.painters.append(threading.current_thread())
                self.painting.set()
                assert self.go_on.wait(20)
            return paint(env, action)

        monkeypatch.setattr(WorldEnv, "paint", held_up)


@pytest.mark.parametrize("politely", [True, False])
def test_one_who_leaves_while_a_frame_is_painted_disturbs_nobody(world, serving, one_thread, monkeypatch, politely):
    brush, actions = Brush(monkeypatch), [NAMES.index("UP")] * FRAMES
    with serving(world, "--fps", "60", "--sessions", "2") as server, server.player() as steady:
        steady.hello()
        with server.player() as leaver:
            leaver.hello()
            leaver.hold("space")
            assert brush.painting.wait(20)
            if not politely:  # the connection is reset, as when a browser is killed
                leaver.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                leaver.socket.socket.close()
        assert same(play(steady, [("up",)] * FRAMES), alone(world, actions))
        brush.go_on.set()
        with server.player() as next_one:
            assert next_one.hello()["title"] == "Tiny"
            next_one.picture()
            steady.hold(commands=("pause",))
            steady.pictures_until(lambda header: header["step"] > FRAMES)
        brush.painters[0].join(20)
        assert not brush.painters[0].is_alive() and len(brush.painters) == 1
