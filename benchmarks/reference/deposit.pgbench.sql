-- One deposit of one cent in one statement, into the tables that Mini-ATM has made, for pgbench.
-- The account is one of :accounts, at random; the same rows are written as Mini-ATM writes.
\set number random(0, :accounts - 1)
WITH deposited AS (
    UPDATE account SET balance = balance + 1, last_entry = last_entry + 1
    WHERE account_number = 'bench-' || :number
    RETURNING account_number, last_entry, balance
)
INSERT INTO journal (account_number, entry, batch, kind, amount, balance)
SELECT account_number, last_entry, gen_random_uuid(), 'deposit', 1, balance FROM deposited;
