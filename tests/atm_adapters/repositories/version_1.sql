-- A store of version 1, as sqlite3.Connection.iterdump() wrote it, and the two numbers of its header.
PRAGMA application_id = 1096043825;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE account (
    account_number TEXT PRIMARY KEY,
    opening        INTEGER NOT NULL,
    balance        INTEGER NOT NULL CHECK (balance BETWEEN -999999999999999 AND 999999999999999)
) STRICT, WITHOUT ROWID;
INSERT INTO "account" VALUES('0',100000,105000);
INSERT INTO "account" VALUES('1',100000,-89990);
INSERT INTO "account" VALUES('10',0,0);
INSERT INTO "account" VALUES('shop',-750,-250);
CREATE TABLE journal (
    entry          INTEGER PRIMARY KEY,
    account_number TEXT NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('deposit', 'withdrawal')),
    amount         INTEGER NOT NULL CHECK (amount > 0),
    key            TEXT,
    balance        INTEGER NOT NULL,
    recorded_at    TEXT NOT NULL
) STRICT;
INSERT INTO "journal" VALUES(1,'1','deposit',10,'order 1',100010,'2026-11-24T14:56:23.286+00:00');
INSERT INTO "journal" VALUES(2,'0','deposit',10000,'order 1',110000,'2026-11-24T14:56:23.287+00:00');
INSERT INTO "journal" VALUES(3,'0','withdrawal',5000,NULL,105000,'2026-11-24T14:56:23.287+00:00');
INSERT INTO "journal" VALUES(4,'1','withdrawal',200000,'it''s',-99990,'2026-11-24T14:56:23.287+00:00');
INSERT INTO "journal" VALUES(5,'1','deposit',10000,NULL,-89990,'2026-11-24T14:56:23.288+00:00');
INSERT INTO "journal" VALUES(6,'0','deposit',999999999894999,NULL,999999999999999,'2026-11-24T14:56:23.288+00:00');
INSERT INTO "journal" VALUES(7,'shop','deposit',500,'order 2',-250,'2026-11-24T14:56:23.288+00:00');
INSERT INTO "journal" VALUES(8,'0','withdrawal',999999999894999,'order 2',105000,'2026-11-24T14:56:23.288+00:00');
CREATE UNIQUE INDEX journal_key ON journal (account_number, key) WHERE key IS NOT NULL;
COMMIT;
