"""The HTTP server: OpenAI's endpoints, A1111's, jobs with progress, and the Model Context Protocol."""
