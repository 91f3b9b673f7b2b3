"""The commands: flags in, one checked request out, exit codes."""
