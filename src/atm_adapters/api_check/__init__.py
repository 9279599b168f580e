"""A check of any server that speaks the HTTP API, from the outside: by what it answers."""
