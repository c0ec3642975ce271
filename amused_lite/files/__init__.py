"""The files that are read and written: PNG with its recipe, pictures, tokens, safetensors. Knows no torch."""
