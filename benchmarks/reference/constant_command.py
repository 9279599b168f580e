"""A Typer command that prints a constant: what any ``atm`` command costs before it does anything."""

import typer

app = typer.Typer()


@app.command()
def balance(account_number: str) -> None:
    """Print a constant."""
    typer.echo("1000.00")


@app.command()
def deposit(account_number: str, amount: str) -> None:
    """Be there, so that there are two commands, as in any application."""


if __name__ == "__main__":
    app()
