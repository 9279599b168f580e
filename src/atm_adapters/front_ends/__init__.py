"""The driving side: everything that calls the use cases."""
