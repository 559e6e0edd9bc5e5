"""Gamepads, as posted events: triggers that drive pedals, sticks that do not."""

from types import SimpleNamespace

import numpy as np
import pytest

pygame = pytest.importorskip("pygame")

from worldsim.player import controls, pads  # noqa: E402
from worldsim.player.controls import Keys  # noqa: E402
from worldsim_envs.games.carracing import CarRacing  # noqa: E402

SPEC = CarRacing.actions
LEFT_TRIGGER, RIGHT_TRIGGER = 2, 5


def move(axis, *values, pad=0):
    for value in values:
        pygame.event.post(pygame.event.Event(pygame.JOYAXISMOTION, instance_id=pad, axis=axis, value=value))


def driven(window):
    """Steering, gas and brake of what the window sees."""
    return controls.vector(SPEC, window.poll()).tolist()


def test_triggers_drive_gas_and_brake_by_how_far_they_are_pulled(window):
    move(RIGHT_TRIGGER, -0.95, 1.0)
    assert driven(window) == [0, 1, 0]
    move(LEFT_TRIGGER, -1.0, 0.0)
    half = (0.5 - pads.TRIGGER_DEAD_ZONE) / (1 - pads.TRIGGER_DEAD_ZONE)
    assert driven(window) == pytest.approx([0, 1, half])
    move(0, -0.5)
    assert driven(window) == pytest.approx([-0.5, 1, half])
    move(RIGHT_TRIGGER, -1.0)
    assert driven(window) == pytest.approx([-0.5, 0, half])


def test_a_trigger_at_rest_or_a_little_off_it_pushes_nothing(window):
    move(RIGHT_TRIGGER, -1.0)
    assert window.poll() == Keys(triggers=(0.0,))
    move(RIGHT_TRIGGER, -1 + 1.9 * pads.TRIGGER_DEAD_ZONE)
    assert driven(window) == [0, 0, 0]
    move(RIGHT_TRIGGER, -1 + 2.1 * pads.TRIGGER_DEAD_ZONE)
    assert 0 < driven(window)[1] < 0.01
    move(RIGHT_TRIGGER, 1.5)
    assert driven(window)[1] == 1


def test_the_right_stick_is_no_pedal(window):
    move(3, 0.1, 1.0, -1.0)
    move(4, -0.2, -1.0)
    assert window.poll() == Keys()


def test_an_order_of_axes_with_both_sticks_first_drives_the_same_pedals(window):
    move(2, 0.05)
    move(3, 0.05)
    move(4, -0.9, -0.4)
    move(5, -0.9, 1.0)
    assert driven(window) == pytest.approx([0, 1, (0.3 - pads.TRIGGER_DEAD_ZONE) / (1 - pads.TRIGGER_DEAD_ZONE)])


def test_an_unplugged_pad_lets_the_pedals_go(window):
    move(RIGHT_TRIGGER, -1.0, 1.0)
    assert driven(window) == [0, 1, 0]
    pygame.event.post(pygame.event.Event(pygame.JOYDEVICEREMOVED, instance_id=0))
    assert driven(window) == [0, 0, 0]


def test_of_two_pads_the_trigger_that_is_pulled_further_counts(window):
    move(RIGHT_TRIGGER, -1.0, 0.0, pad=0)
    move(RIGHT_TRIGGER, -1.0, 1.0, pad=1)
    assert driven(window) == [0, 1, 0]


def test_a_pad_that_is_plugged_in_tells_which_axes_are_triggers(window, monkeypatch):
    rests = [0.0, 0.0, -1.0, 0.0, 0.0, -1.0]
    pad = SimpleNamespace(get_instance_id=lambda: 3, get_numaxes=lambda: 6, get_axis=rests.__getitem__)
    monkeypatch.setattr(pygame.joystick, "Joystick", lambda index: pad)
    pygame.event.post(pygame.event.Event(pygame.JOYDEVICEADDED, device_index=0))
    assert window.poll() == Keys(triggers=(0.0, 0.0))
    move(LEFT_TRIGGER, 1.0, pad=3)
    assert driven(window) == [0, 0, 1]


def test_a_key_or_a_button_beats_a_trigger_that_is_pulled_less():
    keys = Keys(held=frozenset({"up"}), triggers=(0.4, 0.4))
    assert np.allclose(controls.vector(SPEC, keys), [0, 1, 0.4])
    assert np.allclose(controls.vector(SPEC, Keys(held=frozenset({"pad 1"}), triggers=(0.4, 0.4))), [0, 0.4, 1])


def test_worlds_without_pedals_are_played_with_triggers_as_without(window):
    from tiny import tiny_actions

    move(RIGHT_TRIGGER, -1.0, 1.0)
    assert not controls.vector(tiny_actions(), window.poll()).any()
