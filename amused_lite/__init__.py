"""amused-lite: text to image by masked image modelling, on the machine you already own."""

__version__ = "0.1.0"
