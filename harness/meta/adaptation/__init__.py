"""Inner loops: how a policy changes with the shots it is given."""
