"""``atm serve``: the HTTP API on uvicorn. Everything that depends on uvicorn is in this package."""
