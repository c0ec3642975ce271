"""The storybook world: hundreds of named things, drawn by five hands whose drawings are fetched and never committed."""
