"""How four temperaments answer five gestures: python examples/npc_reaction.py [WORLD].

Writes npc_reaction.png and npc_reaction.gif. WORLD is the shipped one unless named, a folder of your own, or `game`,
which films the source game itself; the caption says which.
"""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worldsim.cli import one_line
from worldsim_envs import NPCScene

GESTURES = ("wave", "bow", "give", "threaten", "strike")
TEMPERAMENTS = ("friendly", "timid", "proud", "hostile")
SCALE, GAP, LEFT, TOP, SEED, FRAMES, MOMENT = 3, 10, 122, 118, 3, 28, 8
DARK, WHITE, GREY, AMBER = (13, 16, 21), (240, 243, 246), (158, 170, 184), (255, 186, 73)

try:
    scene = NPCScene(sys.argv[1] if len(sys.argv) > 1 else "encounter", seed=SEED)
except (ValueError, OSError) as error:
    sys.exit(f"npc_reaction: {one_line(error)}")
clips = {
    temperament: scene.compare(dict.fromkeys(GESTURES, ...), FRAMES, temperament=temperament)
    for temperament in TEMPERAMENTS
}


def grid(moment):
    """All clips at one moment, under their captions: (H, W, 3) uint8."""
    side = 64 * SCALE + GAP
    picture = Image.new("RGB", (LEFT + 5 * side + GAP, TOP + 4 * side), DARK)
    draw = ImageDraw.Draw(picture)
    draw.text((GAP + 8, 32), "One gesture, four temperaments", WHITE, ImageFont.load_default(28), anchor="lm")
    told = f"Encounter, {scene.source}. Seed {SEED}: the same moment and the same luck in each picture."
    draw.text((GAP + 8, 64), told, GREY, ImageFont.load_default(16), anchor="lm")
    for column, gesture in enumerate(GESTURES):
        middle = LEFT + column * side + 32 * SCALE
        draw.text((middle, TOP - 16), gesture, AMBER, ImageFont.load_default(19), anchor="mm")
    for row, (temperament, answers) in enumerate(clips.items()):
        middle = TOP + row * side + 32 * SCALE
        draw.text((GAP + 8, middle), temperament, WHITE, ImageFont.load_default(19), anchor="lm")
        for column, clip in enumerate(answers.values()):
            frame = Image.fromarray(clip.frames[moment]).resize((64 * SCALE,) * 2, Image.Resampling.NEAREST)
            picture.paste(frame, (LEFT + column * side, TOP + row * side))
    return picture


pictures = [grid(moment) for moment in range(FRAMES + 1)]
pictures[MOMENT].save("npc_reaction.png")
palette = pictures[MOMENT].quantize(255)  # one for all, so that nothing flickers
shown = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
shown[0].save("npc_reaction.gif", save_all=True, append_images=shown[1:], duration=round(1000 / scene.fps), loop=0)
moved = sum(not np.array_equal(clip.frames[0], clip.frames[-1]) for row in clips.values() for clip in row.values())
print(f"npc_reaction.png, npc_reaction.gif: {scene.source}, {moved} of 20 scenes end unlike they began")
