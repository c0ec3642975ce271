"""Training on pixels: VQ-GANs and their decoders."""
