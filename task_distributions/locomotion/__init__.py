"""The six locomotion distributions, on Gymnasium's v5 robots."""
