"""Hand-written forward and backward passes over whole sequences, for speed.

The equations are in ``policies.gru``, ``lstm``, ``scan`` and ``state_space``; everything here
computes the same values and gradients with fewer and larger operations.
"""
