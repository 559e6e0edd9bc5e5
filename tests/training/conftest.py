"""The dot game among the games that a run knows by name."""

import pytest
from dot_game import DotGame

from worldsim_envs import games


@pytest.fixture(scope="module")
def dot_game():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(games.GAMES, "dot", DotGame)
        yield
