"""Tests of any server that implements the HTTP API, through its responses alone: ``atm check``."""
