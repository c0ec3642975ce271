"""Commands that train, fine-tune and score."""
