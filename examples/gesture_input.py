"""Gestures of a hand, a mouse or a stick, before somebody who answers: python examples/gesture_input.py [WORLD].

--source demo plays recorded motions (the default); pointer follows the mouse, pad a controller's stick, camera a hand
(needs opencv-python and mediapipe). Side to side waves, up and down threatens, down and up bows, a quick stroke
sideways strikes, a slow one gives, up guards. Prints how long each gesture took from hand to picture.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np

from worldsim.cli import one_line
from worldsim_envs import NPCScene
from worldsim_envs.npc.motion import MotionReader

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("world", nargs="?", default="encounter", help="or game, the source itself (default: encounter)")
parser.add_argument("--source", choices=("demo", "pointer", "pad", "camera"), default="demo")
parser.add_argument("--temperament", default="friendly", help="of the NPC (default: friendly)")
parser.add_argument("--seconds", type=float, default=60.0, help="end after so long (default: 60)")
args = parser.parse_args()

# Seconds, x and y between which the demo's hand moves evenly; y points down.
MOTIONS = (
    [(0, 0.5, 0.4), (0.15, 0.65, 0.4), (0.4, 0.4, 0.4), (0.65, 0.65, 0.4), (0.9, 0.4, 0.4)],
    [(0, 0.5, 0.4), (0.5, 0.5, 0.7), (1.0, 0.5, 0.4)],
    [(0, 0.3, 0.5), (0.7, 0.65, 0.5)],
    [(0, 0.5, 0.5), (0.15, 0.5, 0.35), (0.35, 0.5, 0.6), (0.55, 0.5, 0.35), (0.75, 0.5, 0.6)],
    [(0, 0.3, 0.5), (0.12, 0.7, 0.5)],
)


def clock():
    """Seconds since the program began."""
    return time.perf_counter() - began


def demo():
    """Every motion of `MOTIONS` with 2.5 s of rest, in real time, 60 points a second; ends after the last."""
    for motion in MOTIONS:
        began, (seconds, x, y) = clock(), zip(*motion, strict=True)
        while (since := clock() - began - 0.4) < seconds[-1] + 2.1:
            yield float(np.interp(since, seconds, x)), float(np.interp(since, seconds, y))
            time.sleep(1 / 60)
        yield None  # the hand is put elsewhere for the next one


def pointer():
    """The mouse over the window."""
    while True:
        width, height = pygame.display.get_surface().get_size()
        x, y = pygame.mouse.get_pos()
        yield min(x / width, 1.0), min(y / height, 1.0)
        time.sleep(1 / 120)


def pad():
    """The first stick of the first controller."""
    pygame.joystick.init()
    if not pygame.joystick.get_count():
        sys.exit("gesture_input: no controller is connected; use --source pointer")
    stick = pygame.joystick.Joystick(0)
    while True:
        yield tuple(float(np.clip(0.5 + 0.5 * stick.get_axis(axis), 0, 1)) for axis in (0, 1))
        time.sleep(1 / 120)


def camera():
    """The tip of a forefinger, as in a mirror; None while no hand is to be seen."""
    if not (find_spec("cv2") and find_spec("mediapipe")):
        sys.exit("gesture_input: --source camera needs pip install opencv-python mediapipe; or use --source pointer")
    import cv2
    import mediapipe

    hands, film = mediapipe.solutions.hands.Hands(max_num_hands=1), cv2.VideoCapture(0)
    while film.isOpened():
        good, picture = film.read()
        if not good:
            break
        found = hands.process(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)).multi_hand_landmarks
        tip = found[0].landmark[8] if found else None
        yield None if tip is None else tuple(float(np.clip(value, 0, 1)) for value in (1 - tip.x, tip.y))
    sys.exit("gesture_input: the camera gives no picture; use --source pointer")


source = {"demo": demo, "pointer": pointer, "pad": pad, "camera": camera}[args.source]
window = args.source != "demo"
began = time.perf_counter()
if window:
    from worldsim.window import NoDisplay, Viewer, pygame
try:
    scene = NPCScene(args.world, seed=3, temperament=args.temperament)
except (ValueError, OSError) as error:
    sys.exit(f"gesture_input: {one_line(error)}")
scene.step()  # the first frame of a network takes longest
try:
    viewer = Viewer("gestures", (64, 64), 1000) if window else None
except NoDisplay as error:
    sys.exit(f"gesture_input: {error}; use --source demo")

reader, waiting, answering, reads_us, pictures_ms, wholes_ms = MotionReader(), None, None, [], [], []
painter, painting, due = ThreadPoolExecutor(1), None, 0.0  # the hand is read on while a frame is painted
for place in source():
    now = clock()
    if now > args.seconds:
        break
    if painting and painting.done():
        frame, painting = painting.result(), None
        if viewer:
            viewer.show(frame)
        if answering:
            name, read_s, motion_s = answering
            pictures_ms.append(1e3 * (clock() - read_s))
            wholes_ms.append(1e3 * motion_s + pictures_ms[-1])
            print(f"{name}: read {1e3 * motion_s:.0f} ms after the hand began, shown {pictures_ms[-1]:.1f} ms later")
    if place is None:
        reader = MotionReader()
        continue
    started = time.perf_counter()
    gesture = reader.feed(now, *place)
    reads_us.append(1e6 * (time.perf_counter() - started))
    if gesture:
        waiting = gesture, now, now - reader.began_s
    if not painting and now >= due:  # the scene keeps its own time, whatever the hand does
        due = max(due + 1 / scene.fps, now)
        if not scene.frames_left:
            scene = NPCScene(args.world, seed=3, temperament=args.temperament)
        if waiting:
            scene.emit(waiting[0])
        answering, waiting, painting = waiting, None, painter.submit(scene.step)
if not pictures_ms:
    sys.exit("gesture_input: no gesture was made")
print(
    f"{len(pictures_ms)} gestures, {scene.source}: reading a point {np.median(reads_us):.0f} us, "
    f"gesture read to picture {np.median(pictures_ms):.1f} ms (worst {max(pictures_ms):.1f}), "
    f"hand to picture {np.median(wholes_ms):.0f} ms, medians"
)
