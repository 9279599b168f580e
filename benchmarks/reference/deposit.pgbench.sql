-- For pgbench: a deposit of one cent in one statement, with the tables and the rows that Mini-ATM writes.
-- The account is a random one of :accounts.
\set number random(0, :accounts - 1)
WITH deposited AS (
    UPDATE account SET balance = balance + 1, last_entry = last_entry + 1
    WHERE account_number = 'bench-' || :number
    RETURNING account_number, last_entry, balance
)
INSERT INTO entry (account_number, entry, batch, kind, amount, balance, closed, recorded_at)
SELECT account_number, last_entry, gen_random_uuid(), 'deposit', 1, balance, false, now() FROM deposited;
