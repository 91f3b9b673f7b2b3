"""Trajectories of a run, made afterwards by playing its scored episodes again."""
