"""A page that draws in the browser itself: one static folder, and the command that writes it."""
