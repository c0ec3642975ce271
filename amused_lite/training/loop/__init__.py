"""The training loop that every trainer uses: steps, checkpoints, processes."""
