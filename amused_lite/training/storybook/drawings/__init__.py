"""The drawings of the storybook world: which sets there are, and how one is rendered and recoloured."""
