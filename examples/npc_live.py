"""Somebody in a scene of your own who answers your keys: python examples/npc_live.py [WORLD FOLDER].

The scene around the NPC is plain pygame; the picture of the NPC is a world's, or the source game's (`game`).
Arrows walk, W waves, B bows, G gives, T threatens, space strikes, C guards; 1 to 4 change who it is; Escape ends.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from worldsim.arguments import positive
from worldsim.cli import one_line
from worldsim.window import NoDisplay, blit_sharp, open_display, pygame
from worldsim_envs import NPCScene

KEYS = {"left": "left", "right": "right", "w": "wave", "b": "bow", "g": "give", "t": "threaten", "space": "strike"}
HELD = ("left", "right", "c")
PEOPLE = ("friendly", "timid", "proud", "hostile")
ROOM, FRAME, INK, DIM = (34, 28, 38), (176, 132, 72), (240, 232, 214), (150, 138, 128)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("world", nargs="?", default="encounter", help="or game, the source itself (default: encounter)")
parser.add_argument("--seed", type=int, default=3, help="of the scene (default: 3)")
parser.add_argument("--frames", type=positive(int), help="end after so many frames (default: at Escape)")
parser.add_argument("--save", help="write the last picture here, as .png")
args = parser.parse_args()
if args.save and Path(args.save).suffix != ".png":
    parser.error(f"--save {args.save}: it writes a .png")


def begin(seed, temperament):
    return NPCScene(args.world, seed=seed, temperament=temperament)


def react(scene, events, held):
    """Hand this moment's keys to the scene: what was pressed as gestures, what is held as walking or a guard."""
    for event in events:
        if event.type == pygame.KEYDOWN:
            name = pygame.key.name(event.key)
            if name in KEYS and name not in HELD:
                scene.emit(KEYS[name])
            elif name in ("1", "2", "3", "4"):
                scene.temperament = PEOPLE[int(name) - 1]
    for name in HELD:
        if held[pygame.key.key_code(name)]:
            scene.emit({"c": "guard*1"}.get(name, f"{name}*1"))
            break


def paint(screen, fonts, frame, scene):
    """A window in a dark room, through which the NPC is seen."""
    screen.fill(ROOM)
    for x in range(0, screen.get_width(), 48):
        pygame.draw.line(screen, (41, 34, 46), (x, 0), (x, screen.get_height()), 2)
    window = pygame.Rect(96, 60, 448, 448)
    pygame.draw.rect(screen, FRAME, window.inflate(28, 28), border_radius=8)
    pygame.draw.rect(screen, (92, 64, 34), window.inflate(28, 28), 4, border_radius=8)
    blit_sharp(screen, frame, window)
    large, small = fonts
    screen.blit(large.render(f"{scene.temperament}  ({scene.source})", True, INK), (96, 530))
    words = "arrows walk  W wave  B bow  G give  T threaten  space strike  C guard  1-4 who"
    screen.blit(small.render(words, True, DIM), (96, 560))


try:
    scene = begin(args.seed, "timid")
    open_display()
except (ValueError, OSError, NoDisplay) as error:
    sys.exit(f"npc_live: {one_line(error)}")
pygame.display.set_caption("Somebody at the window")
screen = pygame.display.set_mode((640, 600))
fonts = pygame.font.Font(None, 26), pygame.font.Font(None, 18)
clock, shown, seed = pygame.time.Clock(), 0, args.seed
while args.frames is None or shown < args.frames:
    events = pygame.event.get()
    if any(e.type == pygame.QUIT or (e.type == pygame.KEYDOWN and e.key == pygame.K_ESCAPE) for e in events):
        break
    if not scene.frames_left:
        seed += 1
        scene = begin(seed, scene.temperament)
    react(scene, events, pygame.key.get_pressed())
    frame = scene.step()
    paint(screen, fonts, frame, scene)
    pygame.display.flip()
    shown += 1
    clock.tick(scene.fps)
if args.save:
    pygame.image.save(screen, args.save)
print(f"{shown} frames, {scene.source}, mean grey {np.mean(frame):.1f}")
pygame.quit()
