"""What tests do with a page's pictures."""

import io

import numpy as np
from PIL import Image


def pixels(image):
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def restarted(player):
    """A fresh round of seed 8, paused at its first frame."""
    player.hold(commands=("new", "pause"))
    return player.pictures_until(lambda header: (header["mode"], header["seed"]) == ("pause", 8))
