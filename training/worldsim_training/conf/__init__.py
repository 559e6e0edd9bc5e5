"""The hydra configuration files."""
