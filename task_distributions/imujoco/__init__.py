"""iMuJoCo (arXiv 2306.13554): robots with one part changed."""
