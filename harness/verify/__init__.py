"""Checks of published runs and of submissions, and the leaderboard made of them."""
