"""The window to play Encounter in: `python -m worldsim_envs.encounter --temperament timid`."""

from __future__ import annotations

import argparse
import sys

from worldsim.arguments import natural
from worldsim_envs.encounter.env import EncounterEnv
from worldsim_envs.encounter.game import PLAYER_KEYS
from worldsim_envs.encounter.rules import FPS


def main(arguments: list[str] | None = None) -> None:
    """Open gymnasium's own player on the game; one line where there is no screen or an option is wrong."""
    parser = argparse.ArgumentParser(prog="python -m worldsim_envs.encounter", description=__doc__)
    parser.add_argument("--npcs", type=int, default=1, help="1 or 2 (default: 1)")
    parser.add_argument("--temperament", help="friendly, timid, proud or hostile (default: drawn)")
    parser.add_argument("--scale", type=int, default=8, help="screen pixels a game pixel, 1 to 16 (default: 8)")
    parser.add_argument("--seed", type=natural, help="of the first scene (default: a new one each time)")
    args = parser.parse_args(arguments)
    try:
        from gymnasium.utils.play import play

        from worldsim.window import NoDisplay, open_display
    except ImportError:
        sys.exit('encounter: the window needs pygame-ce: pip install "worldsim[play]"')
    try:
        open_display()
        env = EncounterEnv(
            npcs=args.npcs, temperament=args.temperament, render_mode="rgb_array", render_scale=args.scale
        )
    except (NoDisplay, ValueError) as error:
        sys.exit(f"encounter: {error}")
    print(", ".join(f"{keys[0]}: {name}" for name, keys in PLAYER_KEYS.items()), "- escape: quit")
    play(env, fps=FPS, seed=args.seed, noop=env.actions.vector())


if __name__ == "__main__":
    main()
