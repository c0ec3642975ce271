"""Programs on top of the library will live here (browser demo, HTTP server, benchmark); nothing does yet."""
