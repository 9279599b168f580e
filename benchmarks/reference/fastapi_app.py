"""The common alternative: the three calls in FastAPI in the style of its tutorial, with floats in a dict.

Usage: ``uvicorn --app-dir benchmarks/reference fastapi_app:app``
"""

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field


class Amount(BaseModel):
    """The body of a deposit or a withdrawal."""

    amount: float = Field(gt=0)


class Account(BaseModel):
    """The body of a response."""

    account_number: str
    balance: float


app = FastAPI()
balances = {str(number): 1000.0 for number in range(1000)}


@app.get("/accounts/{account_number}/balance")
async def get_account(account_number: str) -> Account:
    """Return the balance."""
    if account_number not in balances:
        raise HTTPException(404, "There is no such account.")
    return Account(account_number=account_number, balance=balances[account_number])


@app.post("/accounts/{account_number}/deposit")
async def deposit(account_number: str, body: Amount) -> Account:
    """Deposit money."""
    if account_number not in balances:
        raise HTTPException(404, "There is no such account.")
    balances[account_number] += body.amount
    return Account(account_number=account_number, balance=balances[account_number])


@app.post("/accounts/{account_number}/withdraw")
async def withdraw(account_number: str, body: Amount) -> Account:
    """Withdraw money."""
    if account_number not in balances:
        raise HTTPException(404, "There is no such account.")
    balances[account_number] -= body.amount
    return Account(account_number=account_number, balance=balances[account_number])
