"""The networks; their module paths stand in saved files and never move."""
