"""The battery: instruments for any simulator of a game, tried on the real game and on copies broken on purpose."""
