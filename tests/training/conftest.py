"""The dot game among the games that a run knows by name, and a whole run of it."""

import pytest
from dot_game import DotGame
from tiny_run import run

from worldsim_envs import games


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
