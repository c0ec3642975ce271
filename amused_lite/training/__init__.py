"""Training: scenes, losses and loops (needs torch)."""
