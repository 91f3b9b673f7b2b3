"""RLlib's PPO as an independent reference for our own."""
