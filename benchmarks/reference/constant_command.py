"""A Typer command that prints a constant: what any ``atm`` command costs before it does anything."""

import typer

app = typer.Typer()


@app.command()
def balance(account_number: str) -> None:
    """Print a constant."""
    typer.echo("1000.00" if account_number else "")


@app.command()
def serve() -> None:
    """Be there, so that there are two commands, as in any application."""


if __name__ == "__main__":
    app()
