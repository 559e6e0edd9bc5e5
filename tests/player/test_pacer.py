"""The clock of the game, on a clock that only sleeping and working move."""

import itertools

import numpy as np
import pytest
from player_kit import Clock

pytest.importorskip("pygame")

from worldsim.player import pacer as pace  # noqa: E402
from worldsim.player.drift import EVERY, SELDOM, Drift  # noqa: E402
from worldsim.player.pacer import Pacer  # noqa: E402


class Player:
    """A clock, a pacer at 20 frames a second, and keys that change at given times."""

    def __init__(self, keys_s=()):
        self.clock = Clock()
        self.pacer = Pacer(20, now=self.clock.now, sleep=self.clock.sleep)
        self._keys_s = list(keys_s)

    def pressed(self, seconds):
        """As `Event.wait` of the desk's event."""
        now = self.clock.time_s
        if not self._keys_s or self._keys_s[0] > now + seconds:
            self.clock.sleep(seconds)
            return False
        self.clock.time_s = max(now, self._keys_s[0])
        return True

    def begin(self, work_s, painted_s=0.0):
        """Begin a frame that takes so long; returns when it began."""
        self.pacer.wait(self.pressed)
        began = self.clock.time_s
        self._keys_s = [key_s for key_s in self._keys_s if key_s > began]
        self.clock.time_s += work_s
        self.pacer.worked(work_s)
        return began

    def gaps(self, works):
        return np.diff([self.begin(work_s) for work_s in works])


def test_a_fast_model_plays_at_full_speed():
    assert np.allclose(Player().gaps([0.01, 0.03] * 20), 0.05)


def test_a_slow_model_slows_the_game_without_catching_up():
    player = Player()
    player.gaps([0.01] * 20)
    slow = player.gaps([0.1] * 60)
    assert np.allclose(slow[20:], 0.1, atol=1e-3)
    assert player.pacer.period_s == pytest.approx(0.1, rel=1e-3)
    recovered = player.gaps([0.01] * 80)
    assert (recovered > 0.0499).all() and np.allclose(recovered[-20:], 0.05, atol=1e-3)
    assert np.abs(np.diff(recovered)).max() < 0.02


def test_small_delays_move_no_later_tick():
    player = Player()
    works = [0.01, 0.06, 0.01, 0.065, 0.01] * 8
    began = [player.begin(work_s) for work_s in works]
    assert np.allclose(began[::5], 0.25 * np.arange(8))


def test_one_long_stall_moves_all_later_ticks_and_changes_no_speed():
    gaps = Player().gaps([0.01] * 20 + [0.5] + [0.01] * 20)
    assert gaps[20] == pytest.approx(0.5)
    assert np.allclose(np.delete(gaps, 20), 0.05)


def test_slow_motion_begins_and_ends_at_once():
    player = Player()
    player.gaps([0.01] * 20)
    player.pacer.retime(5)
    assert np.allclose(player.gaps([0.01] * 10)[1:], 0.2)
    player.pacer.retime(20)
    assert np.allclose(player.gaps([0.01] * 10), 0.05)


def test_a_key_begins_its_frame_where_the_machine_is_idle():
    player = Player([0.135])
    began = [player.begin(0.01) for _ in range(4)]
    assert np.allclose(began, [0, 0.05, 0.1, 0.135])


def test_a_key_that_came_while_a_frame_was_painted_is_answered_as_early_as_may_be():
    player = Player([0.115])
    began = [player.begin(0.02) for _ in range(4)]
    assert began[3] == pytest.approx(0.15 - pace.EARLY * 0.05)


def test_after_an_early_frame_the_ticks_are_met_again_step_by_step():
    player = Player([0.135])
    began = np.array([player.begin(0.01) for _ in range(30)])
    gaps = np.diff(began)
    assert (gaps[3:] <= (1 + pace.REPAY) * 0.05 + 1e-9).all()
    assert np.allclose(began[-5:], 0.05 * np.arange(25, 30))


def test_however_often_keys_change_the_speed_stays_and_the_frames_are_even():
    player = Player(itertools.accumulate(np.random.default_rng(0).uniform(0.01, 0.1, 2000)))
    began = np.array([player.begin(0.01) for _ in range(1001)])
    gaps = np.diff(began)
    assert began[-1] == pytest.approx(50, abs=0.05)
    assert gaps.min() >= (1 - pace.EARLY) * 0.05 - 1e-9 and gaps.max() <= (1 + pace.REPAY) * 0.05 + 1e-9


def test_late_frames_do_not_slow_the_game_of_a_quick_model():
    player = Player()
    for _ in range(300):
        player.begin(0.03)
        player.pacer.shown(True)
    assert player.pacer.period_s == pytest.approx(0.05)


def test_late_frames_of_a_slow_model_give_it_room_until_few_are_late_and_then_the_speed_comes_back():
    player, rng = Player(), np.random.default_rng(0)

    def play(spread_s, frames):
        """Frames that come late to the screen by chance."""
        late = 0
        for jitter_s in rng.exponential(spread_s, frames):
            player.begin(0.05)
            is_late = jitter_s > 0.25 * player.pacer.period_s
            late += is_late
            player.pacer.shown(is_late)
        return late / frames

    assert play(0.001, 300) == 0 and player.pacer.period_s == pytest.approx(0.05)
    assert play(0.003, 500) > 0.005
    assert 0.05 < player.pacer.period_s < 0.09
    assert play(0.003, 4000) < 2 * pace.LATE_SHARE
    play(0.001, 5000)
    assert player.pacer.period_s == pytest.approx(0.05, rel=0.01)


def test_late_frames_win_at_most_so_much_room():
    player = Player()
    for _ in range(300):
        player.begin(0.05)
        player.pacer.shown(True)
    assert player.pacer.period_s == pytest.approx(pace.WIDEST * 0.05)


def test_a_frame_is_due_on_the_screen_when_the_slower_ones_are_painted_but_for_the_slowest():
    player = Player()
    due = []
    for painted_s in [0.02] * 10 + [0.01, 0.04, 0.01, 0.03, 0.01]:
        player.pacer.wait(player.pressed)
        began = player.clock.time_s
        player.clock.time_s += painted_s
        due.append(player.pacer.painted() - began)
        player.pacer.worked(painted_s)
    assert np.allclose(due, [0.02] * 13 + [0.03] * 2)


def test_the_drift_signal_is_asked_for_where_a_frame_has_room_else_seldom():
    def asked(*needed_s):
        drift, frames = Drift(), []
        for frame, needed in zip(range(2 * SELDOM + 2), itertools.cycle(needed_s)):
            if drift.is_due(needed, 0.05):
                frames.append(frame)
                drift.looked(0.02)
        return frames

    assert asked(0.03)[:3] == [0, EVERY, 2 * EVERY]
    assert asked(0.04) == [0, SELDOM, 2 * SELDOM]
    assert asked(*[0.03] * EVERY, 0.04)[:3] == [0, EVERY + 1, 2 * EVERY + 2]  # a slow frame leaves it to the next
