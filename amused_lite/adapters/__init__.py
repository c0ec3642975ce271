"""Adapters (LoRA and bottleneck): their arithmetic, files, conversion, and how they get into a model."""
