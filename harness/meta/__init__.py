"""The algorithmics of meta-reinforcement learning: torch, without ray."""
