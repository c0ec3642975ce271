"""Torch networks to what the runtimes run. Every export proves its parity or fails."""
