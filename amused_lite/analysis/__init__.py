"""What can be said of pictures and of how they were drawn: traces, ranking, verification, video."""
