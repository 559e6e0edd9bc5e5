"""What the Encounter can be played in: the game and a tiny random world of it."""

import pytest
from tiny import tiny_encounter


@pytest.fixture(scope="module")
def worlds():
    """What a scene can be played in: both keep the same promises."""
    return {"game": "game", "imagined": tiny_encounter()}


@pytest.fixture(params=["game", "imagined"])
def world(request, worlds):
    return worlds[request.param]
