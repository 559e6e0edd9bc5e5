"""The recipe that turns recordings of a game into a world model."""
