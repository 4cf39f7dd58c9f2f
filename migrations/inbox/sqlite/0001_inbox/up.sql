-- The inbox: what a consumer has processed, and what it keeps until it is. Nothing but the inbox writes here.
-- Times are microseconds since 1970-01-01 UTC. Texts and blobs compare by their bytes (BINARY, SQLite's default).

-- Identities that were seen. A row is inserted in the transaction that processes its message, and purged by age
-- once it is processed: what is held or dead stays known.
CREATE TABLE {{messages}} (
    consumer TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'processed',
    processed_at INTEGER NOT NULL
        DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    PRIMARY KEY (consumer, source, id),
    CONSTRAINT {{prefix}}messages_status CHECK (status IN ('processed', 'held', 'dead'))
) WITHOUT ROWID;

-- What a purge removes, oldest first.
CREATE INDEX "{{prefix}}messages_purge" ON {{messages}} (consumer, processed_at) WHERE status = 'processed';

-- The last number of held messages and dead letters: a replayed one keeps its own.
CREATE TABLE {{held_seq}} (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    last INTEGER NOT NULL
);

INSERT INTO {{held_seq}} (one, last) VALUES (1, 0);

-- Messages that are processed later: failed ones, those behind them, and all in durable mode. The payload is the last column, so that
-- scans do not have to walk over it.
CREATE TABLE {{held}} (
    seq INTEGER PRIMARY KEY,
    consumer TEXT NOT NULL,
    source TEXT,
    id TEXT,
    ordering_key BLOB,
    stream TEXT NOT NULL,
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL,
    claim TEXT,
    claimed_until INTEGER,
    error TEXT,
    redelivered INTEGER NOT NULL,
    sent_at INTEGER,
    record_key BLOB,
    headers TEXT NOT NULL,
    payload BLOB,
    CONSTRAINT {{prefix}}held_status CHECK (status IN ('received', 'waiting', 'failed', 'processing')),
    CONSTRAINT {{prefix}}held_claim CHECK ((status = 'processing') = (claim IS NOT NULL)
        AND (claim IS NULL) = (claimed_until IS NULL)),
    CONSTRAINT {{prefix}}held_identity CHECK ((source IS NULL) = (id IS NULL))
);

-- What is due; the messages of a key in their order; those without a key that are due; a claim's own; keys that are worked on.
CREATE INDEX "{{prefix}}held_due" ON {{held}} (consumer, due_at);
CREATE INDEX "{{prefix}}held_key" ON {{held}} (consumer, ordering_key, seq) WHERE ordering_key IS NOT NULL;
CREATE INDEX "{{prefix}}held_keyless" ON {{held}} (consumer, due_at) WHERE ordering_key IS NULL;
CREATE INDEX "{{prefix}}held_claims" ON {{held}} (claim) WHERE claim IS NOT NULL;
CREATE INDEX "{{prefix}}held_claimed_keys" ON {{held}} (consumer, ordering_key) WHERE claim IS NOT NULL;

-- Keys whose later messages go behind what is held of them, or wait for an operator.
CREATE TABLE {{parked_keys}} (
    consumer TEXT NOT NULL,
    ordering_key BLOB NOT NULL,
    reason TEXT NOT NULL,
    parked_at INTEGER NOT NULL,
    PRIMARY KEY (consumer, ordering_key),
    CONSTRAINT {{prefix}}parked_keys_reason CHECK (reason IN ('held', 'dead_letter', 'operator'))
) WITHOUT ROWID;

-- Messages that were given up, as they came, with the reason.
CREATE TABLE {{dead_letters}} (
    seq INTEGER PRIMARY KEY,
    consumer TEXT NOT NULL,
    source TEXT,
    id TEXT,
    ordering_key BLOB,
    stream TEXT NOT NULL,
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    parks_key INTEGER NOT NULL,
    died_at INTEGER NOT NULL,
    redelivered INTEGER NOT NULL,
    sent_at INTEGER,
    record_key BLOB,
    headers TEXT NOT NULL,
    payload BLOB
);

CREATE INDEX "{{prefix}}dead_letters_consumer" ON {{dead_letters}} (consumer, seq);
CREATE INDEX "{{prefix}}dead_letters_parking" ON {{dead_letters}} (consumer, ordering_key) WHERE parks_key;

-- How far partitions were consumed.
CREATE TABLE {{positions}} (
    consumer TEXT NOT NULL,
    stream TEXT NOT NULL,
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (consumer, stream, partition)
) WITHOUT ROWID;

-- Identities that were processed before a consumer's horizon may have been purged.
CREATE TABLE {{horizons}} (
    consumer TEXT PRIMARY KEY NOT NULL,
    horizon INTEGER NOT NULL
) WITHOUT ROWID;
