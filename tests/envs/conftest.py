"""Tiny random worlds: one in its folder, and what the Encounter can be played in."""

import pytest
from tiny import save_tiny_world, tiny_encounter

from worldsim.world_model import WorldModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny_world(tmp_path_factory.mktemp("world")))


@pytest.fixture(scope="module")
def model(folder):
    return WorldModel.from_pretrained(folder)


@pytest.fixture(scope="module")
def worlds():
    """What a scene can be played in: both keep the same promises."""
    return {"game": "game", "imagined": tiny_encounter()}


@pytest.fixture(params=["game", "imagined"])
def world(request, worlds):
    return worlds[request.param]
