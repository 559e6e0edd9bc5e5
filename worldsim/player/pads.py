"""Gamepads as events tell of them: sticks, hats, triggers and buttons."""

from __future__ import annotations

import contextlib

import pygame

DEAD_ZONE = 0.2
"""Share of a stick's way that means rest: no stick comes back to exactly 0."""
TRIGGER_DEAD_ZONE = 0.08
"""Share of a trigger's way that means rest; what is above it fills the whole range again."""
STICK_AXES = 2
"""A pad's first axes are its left stick. Of the others those that rest at their lower end are triggers."""
AT_ITS_END = -0.5
"""An axis that is first seen below this rests at its lower end, -1; sticks rest at 0."""


class Pads:
    """What all pads together hold and push now."""

    def __init__(self) -> None:
        with contextlib.suppress(pygame.error):  # a machine without joystick support plays with keys
            pygame.joystick.init()
        self._open: dict[int, pygame.joystick.JoystickType] = {}
        self.note = ""
        """What a player should know of the pads; empty where there is nothing to say."""
        self._let_go()

    @property
    def stick(self) -> tuple[float, float]:
        """The left stick or the hat, whichever is pushed further: (x, y) in [-1, 1], right and down positive."""
        x, y = (max(pair, key=abs) for pair in zip(self._stick, self._hat, strict=True))
        return x, y

    @property
    def triggers(self) -> tuple[float, ...]:
        """How far each trigger is pulled, in [0, 1], the right one first; empty until one is known."""
        pulls: dict[int, float] = {}
        for (_, axis), pull in self._pulls.items():
            pulls[axis] = max(pull, pulls.get(axis, 0.0))
        return tuple(pulls[axis] for axis in sorted(pulls, reverse=True))  # on every common pad the right is the higher

    def hear(self, event: pygame.Event, tapped: set[str]) -> None:
        """Take one event; adds to `tapped` the button that went down. Events of other things do nothing."""
        if event.type == pygame.JOYDEVICEADDED:
            self._plug_in(pygame.joystick.Joystick(event.device_index))
        elif event.type == pygame.JOYDEVICEREMOVED:
            self._open.pop(event.instance_id, None)
            self._let_go()
            self.note = "The gamepad is unplugged; the keys still play"
        elif event.type == pygame.JOYAXISMOTION:
            self._move(event.instance_id, event.axis, min(max(event.value, -1.0), 1.0))
        elif event.type == pygame.JOYHATMOTION:
            self._hat = [float(event.value[0]), -float(event.value[1])]
        elif event.type == pygame.JOYBUTTONDOWN:
            self.held.add(f"pad {event.button}")
            tapped.add(f"pad {event.button}")
        elif event.type == pygame.JOYBUTTONUP:
            self.held.discard(f"pad {event.button}")

    def _plug_in(self, pad: pygame.joystick.JoystickType) -> None:
        number = pad.get_instance_id()
        self._open[number] = pad
        self.note = ""
        for axis in range(STICK_AXES, pad.get_numaxes()):
            if pad.get_axis(axis) < AT_ITS_END:  # elsewhere the first motion tells: some drivers say 0 until then
                self._move(number, axis, pad.get_axis(axis))

    def _move(self, pad: int, axis: int, value: float) -> None:
        if axis < STICK_AXES:
            self._stick[axis] = value if abs(value) > DEAD_ZONE else 0.0
        elif self._rests_low.setdefault((pad, axis), value < AT_ITS_END):
            pull = (value + 1) / 2
            self._pulls[pad, axis] = max((pull - TRIGGER_DEAD_ZONE) / (1 - TRIGGER_DEAD_ZONE), 0.0)

    def _let_go(self) -> None:
        self.held: set[str] = set()
        """Buttons: "pad 0", "pad 1", ..."""
        self._stick, self._hat = [0.0, 0.0], [0.0, 0.0]
        self._rests_low: dict[tuple[int, int], bool] = {}
        self._pulls: dict[tuple[int, int], float] = {}
