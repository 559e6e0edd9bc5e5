"""Encounter, a game of gestures: people answer what the player does. Its rules are a table in `encounter.rules`."""
