"""The dot game among those that a run knows by name, and a whole run of it; the toy game and held-out rounds of it."""

import pytest
from dot_game import DotGame
from tiny_run import run
from toy_game import ToyGame

from worldsim_envs import games
from worldsim_training.heldout import record_heldout


@pytest.fixture(scope="module")
def dot_game():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(games.GAMES, "dot", DotGame)
        yield


@pytest.fixture(scope="module")
def finished(dot_game, tmp_path_factory):
    """Folder of a whole tiny run of the dot game."""
    folder = tmp_path_factory.mktemp("finished")
    assert run(folder)
    return folder


@pytest.fixture(scope="module")
def game():
    """The toy game, in files that name no other."""
    return ToyGame()


@pytest.fixture(scope="module")
def heldout(game):
    """Three whole rounds of it."""
    return record_heldout(game, split="validation", seed=0, episodes=3, max_steps=340, save_every=8)
