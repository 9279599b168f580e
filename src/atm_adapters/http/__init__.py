"""The HTTP API, on Litestar and uvicorn."""
