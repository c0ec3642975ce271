"""Programs on top of the library: the engine behind browser demo and HTTP server, and both of these."""
