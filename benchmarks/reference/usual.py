"""The usual choice: the three calls in FastAPI as its tutorial writes them, with floats in a dict, in memory.

How to run it: ``uvicorn --app-dir benchmarks/reference usual:app``
"""

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field


class Amount(BaseModel):
    """The body of a deposit or a withdrawal."""

    amount: float = Field(gt=0)


class Account(BaseModel):
    """What is answered."""

    account_number: str
    balance: float


app = FastAPI()
balances = {str(number): 1000.0 for number in range(1000)}


@app.get("/accounts/{account_number}/balance")
async def check_balance(account_number: str) -> Account:
    """Answer the balance."""
    if account_number not in balances:
        raise HTTPException(404, "There is no such account.")
    return Account(account_number=account_number, balance=balances[account_number])


@app.post("/accounts/{account_number}/deposit")
async def deposit(account_number: str, body: Amount) -> Account:
    """Put money into an account."""
    if account_number not in balances:
        raise HTTPException(404, "There is no such account.")
    balances[account_number] += body.amount
    return Account(account_number=account_number, balance=balances[account_number])


@app.post("/accounts/{account_number}/withdraw")
async def withdraw(account_number: str, body: Amount) -> Account:
    """Take money out of an account."""
    if account_number not in balances:
        raise HTTPException(404, "There is no such account.")
    balances[account_number] -= body.amount
    return Account(account_number=account_number, balance=balances[account_number])
