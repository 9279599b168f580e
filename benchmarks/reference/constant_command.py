"""A Typer command that prints a constant: the fixed cost of every ``atm`` command."""

import typer

app = typer.Typer()


@app.command()
def balance(account_number: str) -> None:
    """Print a constant."""
    typer.echo("1000.00" if account_number else "")


@app.command()
def serve() -> None:
    """Do nothing. With a second command, Typer expects the name of a command."""


if __name__ == "__main__":
    app()
