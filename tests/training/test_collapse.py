"""The collapse test: real rollouts of one scene and of many, against broken copies of them."""

from dataclasses import replace

import numpy as np
import pytest
from toy_game import GRASS, ToyGame

from worldsim_envs.encounter.scene import PLACES
from worldsim_envs.games.encounter import Encounter
from worldsim_training import collapse, evaluation, mutants
from worldsim_training.battery.broken import broken
from worldsim_training.battery.simulator import Past, Played
from worldsim_training.collect import record_episode
from worldsim_training.episodes import Episode
from worldsim_training.heldout import HeldOut, Moment
from worldsim_training.stability import Pay, appoint_judge, check_judge, make_mutants, rates

FRAMES, OPENING = 160, 16
MUTANTS = ("frozen", "blurred", "smeared", "noisy", "saturated", "faded", "player erased", "opponent erased")
GROUNDS = ((150, 80, 60), (80, 60, 150), (60, 80, 150), (150, 60, 80))
"""Other ground, as colourful as grass."""
PLAN = evaluation.Plan(episodes=6, windows=1, horizons=(1,), trials=1, rollout_steps=FRAMES)
RUINS = {"grey": "saturated", "black": "saturated", "colours drift": "saturated", "hard noise": "noise"}


@pytest.fixture(scope="module")
def game():
    return ToyGame()


@pytest.fixture(scope="module")
def rollouts(game):
    """Nine real rollouts, of nine episodes."""
    return [game.rollout(FRAMES, seed) for seed in range(9)]


@pytest.fixture(scope="module")
def judge(game, rollouts):
    return appoint_judge(game, rollouts[:3], rollouts[3:6], opening_frames=4)


@pytest.fixture(scope="module")
def places():
    """Five real rollouts of Encounter in each of its places, the policies in turn."""
    found, index = {place: [] for place in range(PLACES)}, 0
    game, policies = Encounter(), list(Encounter.policies())
    while min(map(len, found.values())) < 5:
        episode = record_episode(game, policies[index % len(policies)], (0, 1, index), FRAMES - 1)
        found[game.scene.place].append(episode.frames)
        index += 1
    return {place: rollouts[:5] for place, rollouts in found.items()}


@pytest.fixture(scope="module")
def traveller(places):
    """The judge of Encounter that has seen two rollouts of every place, and two more for its limits."""
    looks, widths = ([frames for rollouts in places.values() for frames in rollouts[i : i + 2]] for i in (0, 2))
    return appoint_judge(Encounter, looks, widths, opening_frames=OPENING)


@pytest.fixture(scope="module")
def copies(game, rollouts, places):
    """Broken copies of a rollout of the toy game, and of one of Encounter in each of its places."""
    rng = np.random.default_rng(0)
    of_places = {place: make_mutants(Encounter, each[4], rng) for place, each in places.items()}
    return {"toy": make_mutants(game, rollouts[6], rng)} | of_places


def ruined(frames, name):
    """A copy that is ruined from its middle on."""
    half = len(frames) // 2
    steps = np.arange(1, len(frames) - half + 1)[:, None, None, None]
    late = frames[half:].astype(np.float64)
    picture = {
        "grey": np.full_like(late, 128),
        "black": np.zeros_like(late),
        "colours drift": late * np.concatenate([1 + 0.01 * steps, 0 * steps + 1, 1 - 0.01 * steps], axis=-1),
        "hard noise": np.random.default_rng(0).integers(0, 256, late.shape),
    }[name]
    return np.concatenate([frames[:half], picture.clip(0, 255).astype(np.uint8)])


def test_a_sprite_that_steps_aside_ends_its_stay():
    track = np.array([[5, 5], [5, 5], [5.4, 5], [7, 5], [7, 5], [np.nan, np.nan], [7, 5]], dtype=float)
    assert collapse.longest_stay(track) == 2


@pytest.mark.parametrize(
    ("unseen", "most"),
    [
        (np.zeros(200), 0),
        (np.arange(200) >= 90, 110),  # gone for good
        (np.arange(200) % 5 < 2, 26),  # two frames of five, over and over: of 64 at most 26
        (np.arange(200) % 100 < 7, 7),  # now and then
        (np.arange(10) % 2, 5),  # less than a block
    ],
)
def test_a_sprite_that_comes_and_goes_is_missed_too(unseen, most):
    assert collapse.most_unseen(unseen.astype(bool)) == most


def test_no_real_rollout_collapses(judge, rollouts):
    assert [judge.reasons(frames) for frames in rollouts[6:]] == [()] * 3


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rollout_collapses_for_the_right_reason(name, judge, rollouts, copies):
    mutant, expected = copies["toy"][name]
    assert mutant.shape == rollouts[6].shape and mutant.dtype == np.uint8
    np.testing.assert_array_equal(mutant[:80], rollouts[6][:80])
    assert expected.intersection(judge.reasons(mutant))


@pytest.mark.parametrize("place", range(PLACES))
def test_no_real_rollout_of_any_place_collapses(place, traveller, places):
    assert traveller.reasons(places[place][4]) == ()


@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rollout_of_any_place_collapses_for_the_right_reason(name, place, traveller, copies):
    mutant, expected = copies[place][name]
    assert expected.intersection(traveller.reasons(mutant))


@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize(("name", "reason"), RUINS.items())
def test_a_ruined_rollout_of_any_place_collapses(name, reason, place, traveller, places):
    assert reason in traveller.reasons(ruined(places[place][4], name))


@pytest.mark.parametrize(
    ("fault", "reason"), [("frozen", "frozen"), ("colours drift", "saturated"), ("opponent erased", "vanished")]
)
def test_what_a_broken_simulator_of_encounter_ruins_collapses(fault, reason, traveller, places):
    """A faint blur and a faint noise ruin nothing: the battery's pictures flag those."""
    own = {place: rollouts[4] for place, rollouts in places.items()}
    real = Played(np.stack([*own.values()])[:, None, OPENING:], *(np.zeros((PLACES, 1, FRAMES - OPENING)),) * 2)
    past = Past(np.stack([*own.values()])[:, :OPENING], np.zeros((PLACES, OPENING - 1)), [Moment(0, 0)] * PLACES)
    shown = broken(Encounter, _Show(real))[fault].play(past, np.zeros((PLACES, 1, 1)), np.arange(PLACES))
    for opening, frames in zip(past.frames, shown.frames[:, 0], strict=True):
        signs = traveller.signs(frames, opening)
        assert reason in collapse.collapse_reasons(signs, traveller.limits)


class _Show:
    """A simulator that shows one thing whatever it is told."""

    def __init__(self, played):
        self.played = played

    def play(self, past, actions, seeds):
        return self.played


def test_encounter_passes_its_own_check(traveller, places):
    assert check_judge(traveller, [rollouts[4] for rollouts in places.values()], np.random.default_rng(0)) == 16


def test_a_place_that_the_judge_never_saw_is_judged_by_its_own_opening(places):
    seen = [frames for place in range(PLACES - 1) for frames in places[place][:4]]
    judge = appoint_judge(Encounter, seen[::2], seen[1::2], opening_frames=OPENING)
    assert check_judge(judge, places[PLACES - 1][3:], np.random.default_rng(0)) == 16


def test_a_flash_that_passes_is_no_collapse_and_one_that_stays_is(judge, rollouts):
    flash = rollouts[6].copy()
    flash[99:102, 6:44, 4:60] = (255, 120, 250)
    assert judge.signs(flash, flash[:4]).farthest_db < 10 and judge.reasons(flash) == ()
    flash[100:, 6:44, 4:60] = (255, 120, 250)
    assert {"noise", "saturated"} <= {*judge.reasons(flash)}


def test_a_view_that_only_a_short_episode_shows_is_no_collapse(game, judge, rollouts):
    turned = rollouts[6].copy()
    turned[80:] = turned[80:].mean(axis=-1, keepdims=True).astype(np.uint8) // 4 + np.uint8([90, 40, 10])
    assert "saturated" in judge.reasons(turned)
    short = [turned[100:130:3]]
    wise = appoint_judge(game, rollouts[:3], rollouts[3:6], opening_frames=4, episodes=rollouts[:3] + short)
    assert wise.signs(turned, turned[:4]).colour_distance < 2 < judge.signs(turned, turned[:4]).colour_distance


def on_ground(frames, colour, first, last=FRAMES):
    """A rollout of the toy game over other ground from one frame to another."""
    frames = frames.copy()
    shown = frames[first:last]
    shown[(shown == GRASS).all(axis=-1)] = colour
    return frames


def appointed(game, shown):
    """The judge that held-out episodes with these frames appoint; every third is in the third of that number."""
    episodes = [Episode(each, np.zeros(len(each) - 1, int), np.zeros(len(each) - 1), ended=False) for each in shown]
    heldout = HeldOut(episodes, ["random"] * len(shown), [{}] * len(shown))
    return evaluation._appointed(game, heldout, PLAN, 4, np.random.default_rng(0))[0]


def test_a_scene_that_any_held_out_episode_shows_is_real(game, rollouts):
    short = [on_ground(rollouts[7], colour, 40)[40:100] for colour in GROUNDS[:3]]  # one in each third
    judge = appointed(game, [*rollouts[:6], *short])
    found = [judge.reasons(on_ground(rollouts[6], colour, 40)) for colour in GROUNDS]
    assert found == [(), (), (), ("saturated",)]


def test_a_judge_is_checked_by_real_rollouts_that_it_has_not_seen(game, rollouts):
    shown = [*rollouts[:5], on_ground(rollouts[5], GROUNDS[0], 40)]
    with pytest.raises(ValueError, match="collapse test refused: a real rollout is noise and saturated"):
        appointed(game, shown)


def test_a_judge_whom_more_real_episodes_make_blind_is_refused(game, rollouts):
    """Where rollouts turn gaudy in the real game too, only the distance from all that is real tells a mutant."""
    gaudy = [on_ground(frames, (20, 20, 230), 60, 130) for frames in rollouts[:4]]
    shown = [*gaudy[:2], rollouts[4], *gaudy[2:]]
    mutant = mutants.saturated(rollouts[6], 80)
    assert "saturated" in appointed(game, shown).reasons(mutant)
    with pytest.raises(ValueError, match="collapse test refused: a real rollout that was saturated is sound by it"):
        appointed(game, [*shown, mutant[80:]])


def test_more_real_episodes_change_what_is_near_and_nothing_else(judge, rollouts):
    wide = judge.having_seen(rollouts[3:])
    assert {name for name, value in vars(wide).items() if value is not vars(judge)[name]} == {"reference"}
    own, more = vars(judge.reference), vars(wide.reference)
    assert {name for name, value in more.items() if value is not own[name]} == {"frames", "colours"}
    assert len(more["frames"]) == len(more["colours"]) == 3 * len(own["frames"])
    far, near = (each.signs(rollouts[8], rollouts[8][:4]) for each in (judge, wide))
    assert (near.colour_distance, near.nearest_db) == (0, pytest.approx(68.13, abs=0.01))
    assert replace(near, **{name: vars(far)[name] for name in ("colour_distance", "nearest_db", "farthest_db")}) == far


@pytest.mark.parametrize("name", MUTANTS)
def test_a_judge_that_has_seen_all_real_rollouts_flags_their_broken_copies(name, judge, rollouts, copies):
    mutant, expected = copies["toy"][name]
    assert expected.intersection(judge.having_seen(rollouts).reasons(mutant))


def test_an_erased_sprite_leaves_the_scene_that_was_behind_it(game, rollouts):
    frames, half = rollouts[6], FRAMES // 2
    track = collapse.sprite_track(frames, game.opponent_xy)
    gone = mutants.erased(frames, half, track)
    assert all(game.opponent_xy(frame) is None for frame in gone[half:])
    background = np.median(frames, axis=0)
    stands = np.repeat(frames[:1], FRAMES, axis=0)
    gone = mutants.erased(stands, half, track[:1].repeat(FRAMES, axis=0))
    assert game.opponent_xy(stands[-1]) and game.opponent_xy(gone[-1]) is None
    x, y = track[0].round().astype(int)
    np.testing.assert_array_equal(gone[-1, y, x], background[y, x])


def test_a_sprite_that_nothing_hides_makes_no_mutant(game, rollouts):
    frames = rollouts[6].copy()
    x, y = game.player_xy(frames[0])
    x, y = round(x), round(y)
    row = frames[0, y - 3 : y + 4, x].copy()  # what stands in its rows beside its place looks like it
    frames[:] = frames[0]
    frames[:, y - 3 : y + 4] = row[:, None]
    made = make_mutants(game, frames, np.random.default_rng(0))
    assert "player erased" not in made
    assert "player erased" in make_mutants(game, rollouts[6], np.random.default_rng(0))


def test_a_player_that_stays_while_the_game_goes_on_is_stuck(game, judge):
    frames = game.rollout(FRAMES, seed=6, action=0)
    assert judge.reasons(frames) == ("stuck",)


def test_a_check_that_finds_a_broken_real_rollout_refuses_to_judge(judge, rollouts):
    blurred = mutants.blurred(rollouts[6], 8)
    with pytest.raises(ValueError, match="collapse test refused: a real rollout is .*smeared"):
        check_judge(judge, [blurred], np.random.default_rng(0))


def test_a_check_that_misses_a_mutant_refuses_to_judge(game, rollouts):
    widths = [*rollouts[3:6], mutants.saturated(rollouts[6], 8)]
    blind = appoint_judge(game, rollouts[:3], widths, opening_frames=4)
    with pytest.raises(ValueError, match="collapse test refused: a real rollout that was"):
        check_judge(blind, rollouts[7:], np.random.default_rng(0))


def test_rates_are_of_the_steps_before_an_end():
    rewards = np.array([[1.0, 2, 4, 8], [0, 0, np.nan, 1]])
    ended = np.array([[False, True, False, True], [False] * 4])
    pays = [Pay.of(*each) for each in zip(rewards, ended, strict=True)]
    assert pays == [Pay(2, 3.0, True), Pay(4, 1.0, False)]
    told = rates("real", pays)
    assert told == {"real_ends_per_1000": pytest.approx(1000 / 6), "real_reward_per_1000": pytest.approx(4000 / 6)}
    assert rates("none", []) == {}
