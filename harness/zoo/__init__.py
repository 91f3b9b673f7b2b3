"""The zoo: published policies by name, such as ``halfcheetah-vel/gru/rl2``."""
