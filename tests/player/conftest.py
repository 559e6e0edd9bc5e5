"""A tiny world, and its player's window under the dummy driver."""

import gymnasium as gym
import pytest
from tiny import save_tiny_world, tiny_actions

pygame = pytest.importorskip("pygame")

FPS = 1000  # tests do not wait


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return str(save_tiny_world(tmp_path_factory.mktemp("world")))


@pytest.fixture
def env(world):
    import worldsim  # noqa: F401 - registers the ids

    return gym.make("worldsim/World-v0", world=world).unwrapped


@pytest.fixture
def window(monkeypatch):
    from worldsim.player.screen import Window

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    window = Window("Tiny", (48, 64), tiny_actions(), scale=4)
    pygame.event.clear()
    yield window
    window.close()


@pytest.fixture
def make_game(world, tmp_path):
    """Makes a game whose files land in the test's own folder."""
    from worldsim.player.folders import Folders
    from worldsim.player.game import Game

    folders = Folders(tmp_path / "clips", tmp_path / "saves")
    return lambda env, **options: Game(env, world=world, fps=FPS, folders=folders, **{"seed": 7, **options})


@pytest.fixture
def hand(env, window, make_game):
    from player_kit import Hand

    return Hand(make_game(env), window)
