"""The parts of `worldsim serve`."""
