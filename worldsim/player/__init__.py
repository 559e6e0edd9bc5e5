"""The parts of `worldsim play`."""
