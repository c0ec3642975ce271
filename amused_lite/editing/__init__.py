"""Edits of pictures as edits of their tokens: vary, inpaint, outpaint, edit and reroll. NumPy and Pillow only."""
