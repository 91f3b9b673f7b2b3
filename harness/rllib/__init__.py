"""RLlib's PPO as an independent reference for ours."""
