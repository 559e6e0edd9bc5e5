"""Whether the pictures of Encounter can be told apart."""

import itertools

import numpy as np
import pytest

from worldsim_envs.encounter.drawing import draw, find_tunic
from worldsim_envs.encounter.game import new_scene
from worldsim_envs.encounter.poses import ACTS
from worldsim_envs.encounter.rules import GESTURES, MOOD_FRAMES, REACTIONS
from worldsim_envs.encounter.scene import LOOKS, PLACES, PLAYER_LOOK

WIDE_ENOUGH = 40  # changed pixels of 4096; a figure covers about 200
CHANGED = 40  # levels, summed over the channels


def make_scene(act="stand", age=3, *, look=0, place=0, mood="calm"):
    """An NPC in the fourth frame of an act, alone to be seen with a player who stands."""
    scene = new_scene(np.random.default_rng(0), ["friendly"])
    scene.place = place
    player, npc = scene.figures
    player.x, npc.x, npc.facing, npc.look = 14, 40, -1, look
    npc.mood, npc.mood_left = mood, 0 if mood == "calm" else MOOD_FRAMES
    npc.begin(act)
    npc.age = age
    return scene


def differing_pixels(one, other):
    return int((np.abs(one.astype(int) - other).sum(axis=-1) >= CHANGED).sum())


@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize("look", range(LOOKS))
def test_every_gesture_and_reaction_looks_unlike_every_other(look, place):
    shown = {act: draw(make_scene(act, look=look, place=place)) for act in {*GESTURES, *REACTIONS, "stand"} - {"brawl"}}
    for one, other in itertools.combinations(shown, 2):
        assert differing_pixels(shown[one], shown[other]) >= WIDE_ENOUGH, (one, other)


def test_a_brawl_is_told_from_a_strike_by_its_second_blow():
    later = 10
    assert differing_pixels(draw(make_scene("brawl", later)), draw(make_scene("strike", 6))) >= WIDE_ENOUGH


def test_moods_are_to_be_seen_in_who_stands():
    shown = [draw(make_scene(mood=mood)) for mood in ("calm", "hurt", "angry")]
    assert all(differing_pixels(one, other) >= WIDE_ENOUGH for one, other in itertools.combinations(shown, 2))


def test_the_meter_shows_how_long_a_mood_still_lasts():
    scene = make_scene(mood="hurt")
    blue = []
    for left in (MOOD_FRAMES, MOOD_FRAMES // 2, 1):
        scene.figures[1].mood_left = left
        blue.append(int((draw(scene)[60] == (70, 150, 255)).all(axis=-1).sum()))
    assert blue == [12, 6, 1]


@pytest.mark.parametrize("act", ACTS)
def test_it_is_to_be_seen_which_way_somebody_faces(act):
    scene = make_scene(act)
    left = draw(scene)
    scene.figures[1].facing = 1
    assert differing_pixels(left, draw(scene)) >= 12


def test_a_scene_is_drawn_alike_at_every_size():
    scene = make_scene("wave")
    small, large = draw(scene), draw(scene, 4)
    assert large.shape == (256, 256, 3)
    shrunk = large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 4


@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize("look", range(LOOKS))
def test_both_figures_are_found_in_a_frame(look, place):
    for x in range(24, 58, 3):
        scene = make_scene("walk", look=look, place=place)
        scene.figures[1].x = x
        frame = draw(scene)
        assert find_tunic(frame, (PLAYER_LOOK,))[0] == pytest.approx(scene.figures[0].x, abs=2)
        assert find_tunic(frame, tuple(range(PLAYER_LOOK)))[0] == pytest.approx(x, abs=2)


def test_nobody_is_found_where_nobody_is():
    assert find_tunic(np.zeros((64, 64, 3), np.uint8), (0, 1, 2, 3, 4)) is None
    with pytest.raises(ValueError, match=r"uint8 \(64, 64, 3\)"):
        find_tunic(np.zeros((32, 64, 3), np.uint8), (0,))
