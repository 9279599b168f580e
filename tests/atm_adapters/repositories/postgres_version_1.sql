-- A store of schema version 1, as pg_dump wrote it: entries with and without keys, negative balances, and an account
-- without entries.

CREATE TABLE account (
    account_number text NOT NULL,
    opening bigint NOT NULL,
    balance bigint NOT NULL,
    last_entry bigint NOT NULL,
    batch uuid NOT NULL,
    CONSTRAINT account_balance_check CHECK (((balance >= '-999999999999999'::bigint) AND (balance <= '999999999999999'::bigint)))
);

CREATE TABLE journal (
    account_number text NOT NULL,
    entry bigint NOT NULL,
    batch uuid NOT NULL,
    kind text NOT NULL,
    amount bigint NOT NULL,
    key text,
    balance bigint NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT journal_amount_check CHECK ((amount > 0)),
    CONSTRAINT journal_kind_check CHECK ((kind = ANY (ARRAY['deposit'::text, 'withdrawal'::text])))
);

CREATE TABLE mini_atm (
    schema_version bigint NOT NULL
);

INSERT INTO account VALUES ('1', 100000, -1, 1, '1985f7ed-c396-4ebd-864f-aed549a39bb6');
INSERT INTO account VALUES ('unused', 0, 0, 0, 'bd81f6d3-9792-4c6a-b904-058663184543');
INSERT INTO account VALUES ('0', 100000, 100644, 4, '1985f7ed-c396-4ebd-864f-aed549a39bb6');
INSERT INTO account VALUES ('overdrawn', -500, -550, 2, '0f47da9e-35bd-4657-88e2-0cd45bf2d511');
INSERT INTO journal VALUES ('0', 1, 'a52a2d2a-5fa5-404a-bc60-65ae81ee5d46', 'deposit', 10, 'first', 100010, '2026-11-24 14:45:24.25147+00');
INSERT INTO journal VALUES ('0', 2, '6da4469b-3e8b-4dcb-877b-e45c8c1a3c80', 'withdrawal', 700, NULL, 99310, '2026-11-24 14:45:24.260217+00');
INSERT INTO journal VALUES ('0', 3, '3d692b3b-9a32-4891-8bb6-6f359b02a21b', 'deposit', 1234, 'it''s "quoted" \ %', 100544, '2026-11-24 14:45:24.26807+00');
INSERT INTO journal VALUES ('1', 1, 'e49538fe-de2b-49be-9342-fd72eac06ed6', 'withdrawal', 100001, 'first', -1, '2026-11-24 14:45:24.271959+00');
INSERT INTO journal VALUES ('overdrawn', 1, 'afbaccf5-55c1-4c6a-92b2-832f6b0b5617', 'withdrawal', 100, 'a', -600, '2026-11-24 14:45:24.284047+00');
INSERT INTO journal VALUES ('0', 4, 'afbaccf5-55c1-4c6a-92b2-832f6b0b5617', 'deposit', 100, 'a', 100644, '2026-11-24 14:45:24.284047+00');
INSERT INTO journal VALUES ('overdrawn', 2, 'afbaccf5-55c1-4c6a-92b2-832f6b0b5617', 'deposit', 50, NULL, -550, '2026-11-24 14:45:24.284047+00');
INSERT INTO mini_atm VALUES (1);

ALTER TABLE ONLY account
    ADD CONSTRAINT account_pkey PRIMARY KEY (account_number);

ALTER TABLE ONLY journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (account_number, entry);

CREATE UNIQUE INDEX journal_key ON journal USING btree (account_number, key) WHERE (key IS NOT NULL);
