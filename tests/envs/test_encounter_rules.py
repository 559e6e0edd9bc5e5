"""The rules of Encounter, played row by row in the real game."""

import re

import numpy as np
import pytest

from worldsim_envs.encounter import rules
from worldsim_envs.encounter.game import advance, intent, new_scene
from worldsim_envs.encounter.rules import ANSWERS, BUTTONS, FRAMES, GESTURES, IDLE, MOOD_FRAMES, MOODS, REACH
from worldsim_envs.encounter.scene import Intent

REST = Intent()
ROWS = [(*key, gesture, *answer) for key, row in ANSWERS.items() for gesture, answer in row.items()]


def make_scene(temperament="friendly", mood="calm", *, gap=16, seed=0):
    """The player on the left, facing an NPC so many pixels away."""
    scene = new_scene(np.random.default_rng(seed), [temperament])
    player, npc = scene.figures
    npc.x, npc.home, npc.facing = 45, 45, -1
    player.x, player.facing = 45 - gap, 1
    npc.mood, npc.mood_left = mood, 0 if mood == "calm" else MOOD_FRAMES
    return scene


def play(scene, gesture, frames=6):
    """Make a gesture once, then rest; all answers that begin."""
    told = []
    for frame in range(frames):
        advance(scene, Intent(0, gesture) if frame == 0 else REST, None)
        told += scene.reactions
    return told


@pytest.mark.parametrize(("temperament", "mood", "gesture", "reaction", "after"), ROWS)
def test_each_row_of_the_table_is_what_the_game_does(temperament, mood, gesture, reaction, after):
    for seed in range(4):
        scene = make_scene(temperament, mood, seed=seed)
        (told,) = play(scene, gesture)
        assert (told.reaction, told.gesture, told.temperament, told.mood) == (reaction, gesture, temperament, mood)
        assert told.gesture_frame == 1 and 2 <= told.delay <= 4
        assert scene.figures[1].act == reaction
        assert scene.figures[1].age == scene.frame - told.onset_frame
        assert scene.figures[1].mood == (after or mood)


def test_the_documented_table_is_the_one_that_is_played():
    rows = [
        [cell.strip() for cell in line.strip("| \n").split("|")] for line in rules.__doc__.splitlines() if "|" in line
    ]
    documented = {
        (temperament, mood, gesture): tuple(re.split(r", ?", cell))
        for temperament, mood, *cells in rows[2:]
        for gesture, cell in zip(rows[0][2:], cells, strict=True)
    }
    played = {(t, m, g): (reaction,) if after is None else (reaction, after) for t, m, g, reaction, after in ROWS}
    assert documented == played and len(played) == 4 * len(MOODS) * 5


@pytest.mark.parametrize("temperament", rules.TEMPERAMENTS)
def test_nobody_answers_when_nothing_was_done(temperament):
    scene = make_scene(temperament)
    walks = np.random.default_rng(0).integers(-1, 2, 3000)
    for walk in walks:
        advance(scene, Intent(int(walk)), None)
        assert not scene.reactions and scene.figures[1].act in IDLE and scene.reward == 0


def test_nobody_answers_a_guard():
    assert not play(make_scene("hostile"), "guard", 12)


@pytest.mark.parametrize("gesture", GESTURES[:-1])
def test_a_gesture_reaches_as_far_as_documented_and_only_where_the_player_faces(gesture):
    assert play(make_scene(gap=min(REACH[gesture], 38)), gesture)
    if REACH[gesture] < 38:
        assert not play(make_scene(gap=REACH[gesture] + 1), gesture)
    scene = make_scene()
    scene.figures[0].facing = -1
    assert not play(scene, gesture)


def test_delays_are_two_to_four_frames_in_their_documented_shares():
    delays = [play(make_scene(seed=seed), "wave")[0].delay for seed in range(800)]
    shares = np.bincount(delays, minlength=5)[2:] / len(delays)
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.05)


def test_an_npc_that_answers_takes_no_notice_but_for_a_strike():
    scene = make_scene("friendly")
    play(scene, "wave", FRAMES["wave"])
    assert scene.figures[1].act == "wave"
    assert not play(scene, "bow", 5)
    scene = make_scene("friendly")
    play(scene, "wave", FRAMES["wave"])
    assert [told.reaction for told in play(scene, "strike", 5)] == ["fall"]


def test_a_mood_lasts_as_long_as_documented():
    scene = make_scene("friendly")
    (told,) = play(scene, "strike", 4 + 2)
    while scene.figures[1].mood == "hurt":
        advance(scene, REST, None)
    assert scene.frame - told.onset_frame == MOOD_FRAMES


def test_a_changed_temperament_shows_in_the_next_answer():
    scene = make_scene("friendly")
    assert play(scene, "wave", 30)[0].reaction == "wave"
    scene.figures[1].temperament = "hostile"
    assert play(scene, "wave")[0].reaction == "threaten"


@pytest.mark.parametrize(("held", "act", "reward"), [(None, "fall", -1), ("guard", "guard", 0)])
def test_a_brawler_fells_the_player_but_not_one_who_guards(held, act, reward):
    scene = make_scene("hostile", gap=14)
    scene.figures[1].begin("brawl")
    total = 0.0
    for _ in range(FRAMES["brawl"] - 1):
        advance(scene, Intent(0, held), None)
        total += scene.reward
    assert (scene.figures[0].act, total) == (act, reward)


def test_two_players_can_wave_and_strike_each_other():
    scene = make_scene(gap=14)
    advance(scene, REST, Intent(0, "wave"))
    assert [figure.act for figure in scene.figures] == ["stand", "wave"] and not scene.reactions
    for _ in range(FRAMES["wave"]):
        advance(scene, REST, REST)
    advance(scene, Intent(0, "strike"), REST)
    advance(scene, REST, REST)
    advance(scene, REST, REST)
    assert scene.figures[1].act == "fall"
    scene = make_scene(gap=14)
    advance(scene, REST, Intent(0, "strike"))
    advance(scene, REST, REST)
    advance(scene, REST, REST)
    assert scene.figures[0].act == "fall" and scene.reward == -1


def test_a_welcome_gift_leaves_the_players_hand():
    scene = make_scene("friendly")
    play(scene, "give", 5)
    assert [figure.act for figure in scene.figures] == ["given", "rejoice"]
    scene = make_scene("hostile")
    play(scene, "give", 5)
    assert [figure.act for figure in scene.figures] == ["give", "snub"]


def test_figures_neither_leave_the_picture_nor_pass_each_other():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scene = new_scene(rng, ["timid", "hostile"])
        order = np.argsort([figure.x for figure in scene.figures])
        for _ in range(300):
            moves = [Intent(int(rng.integers(-1, 2)), None if rng.random() < 0.8 else GESTURES[rng.integers(6)])] * 3
            driven = moves[1:] if rng.random() < 0.5 else (None, None)
            advance(scene, moves[0], *driven)
            x = [figure.x for figure in scene.figures]
            assert min(x) >= rules.LEFT_EDGE and max(x) <= rules.RIGHT_EDGE
            assert (np.diff(np.array(x)[order]) >= rules.NEAREST).all()


def test_buttons_that_conflict_are_resolved_as_documented():
    held = {"left": True, "right": True, "bow": True, "strike": True}
    assert intent([held.get(name, False) for name in BUTTONS]) == Intent(0, "bow")
