"""The page in the browser: train with live progress, load a checkpoint, adapt it and watch."""
