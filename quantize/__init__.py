"""Smaller bundles: 8-bit and narrower weights for whatever a bundle holds will live here; nothing does yet."""
