"""The browser demo: the page, its tabs and what they share."""
