"""StyleDrop: learn a style from a few pictures, watch it and choose among what it draws."""
