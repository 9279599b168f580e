"""What connects the core to the world: repositories behind it, an HTTP API and a command line before it."""
