"""Smaller bundles: 8-bit and narrower weights for whatever a bundle holds, each proven against the float one.

Installed below `amused_lite`, so its modules import each other relatively.
"""
