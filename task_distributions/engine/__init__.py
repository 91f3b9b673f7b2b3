"""MuJoCo stepping: the C API for compiled loops, and B simulations advanced together."""
