"""The machine below: memory, folders, optional packages."""
