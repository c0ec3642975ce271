"""The engine behind server and page: requests, a queue, one worker that owns the models, a history on disk."""
