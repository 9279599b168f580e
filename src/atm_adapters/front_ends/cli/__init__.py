"""The ``atm`` command. Results go to standard output, messages to standard error.

Modules that only some commands need are imported by those commands, because that halves the start-up time.
"""

from atm_adapters.front_ends.cli import accounts, check, serve, stores, tokens
from atm_adapters.front_ends.cli.app import app

__all__ = ["accounts", "app", "check", "serve", "stores", "tokens"]
