"""Training data in two stages: pictures to shards of tokens, and shards to the samples of a step."""
