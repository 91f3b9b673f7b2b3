"""Meta-World's ML10 and ML45 (arXiv 1910.10897) on metaworld 3.1."""
