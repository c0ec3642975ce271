"""How good pictures are: a judge that is not the generator, scores with their n, contact sheets."""
