"""Proofs that others can run: the repository contract, and the check of a server."""
