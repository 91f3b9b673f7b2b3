"""Runs and sweeps: cells, their queue, resuming, mirroring."""
