-- Pending messages. A row here is a message that is still to be delivered; a delivered one is deleted.
-- `seq` is the commit order: SQLite has one writer at a time, and AUTOINCREMENT never gives a number twice.
-- Times are microseconds since 1970-01-01 UTC. The payload may be a blob or a text and is the last column, so that scans do
-- not have to walk over it.
CREATE TABLE {{messages}} (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL
        DEFAULT (lower(
            hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-'
            || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))
        )),
    aggregate_type TEXT NOT NULL,
    aggregate_id TEXT,
    event_type TEXT NOT NULL,
    content_type TEXT NOT NULL DEFAULT 'application/json',
    headers TEXT NOT NULL DEFAULT '{}',
    occurred_at INTEGER NOT NULL
        DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    available_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    retry_at INTEGER,
    last_error TEXT,
    wake_at INTEGER GENERATED ALWAYS AS (coalesce(retry_at, available_at)) VIRTUAL,
    payload BLOB NOT NULL,
    CONSTRAINT {{prefix}}messages_seq CHECK (seq > 0),
    CONSTRAINT {{prefix}}messages_id CHECK (
        typeof(id) = 'text' AND length(id) = 36 AND id NOT GLOB '*[^0-9a-f-]*'
        AND id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
    ),
    CONSTRAINT {{prefix}}messages_aggregate_type CHECK (
        typeof(aggregate_type) = 'text' AND length(aggregate_type) BETWEEN 1 AND 255
    ),
    CONSTRAINT {{prefix}}messages_aggregate_id CHECK (
        aggregate_id IS NULL OR (typeof(aggregate_id) = 'text' AND length(aggregate_id) BETWEEN 1 AND 255)
    ),
    CONSTRAINT {{prefix}}messages_event_type CHECK (
        typeof(event_type) = 'text' AND length(event_type) BETWEEN 1 AND 255
    ),
    CONSTRAINT {{prefix}}messages_content_type CHECK (
        typeof(content_type) = 'text' AND length(content_type) BETWEEN 1 AND 255
    ),
    CONSTRAINT {{prefix}}messages_headers CHECK (
        typeof(headers) = 'text' AND json_valid(headers) AND json_type(headers) = 'object'
    ),
    CONSTRAINT {{prefix}}messages_occurred_at CHECK (
        typeof(occurred_at) = 'integer' AND occurred_at BETWEEN -62135596800000000 AND 253402300799999999
    ),
    CONSTRAINT {{prefix}}messages_available_at CHECK (
        available_at IS NULL
        OR (typeof(available_at) = 'integer' AND available_at BETWEEN -62135596800000000 AND 253402300799999999)
    ),
    CONSTRAINT {{prefix}}messages_attempts CHECK (typeof(attempts) = 'integer' AND attempts >= 0),
    CONSTRAINT {{prefix}}messages_retry_at CHECK (retry_at IS NULL OR typeof(retry_at) = 'integer'),
    CONSTRAINT {{prefix}}messages_payload CHECK (typeof(payload) IN ('blob', 'text'))
);

-- Scheduled and failed messages, found when they are due and never scanned.
CREATE INDEX "{{prefix}}messages_wake_at" ON {{messages}} (wake_at) WHERE wake_at IS NOT NULL;

-- Who owns the shard (SQLite has one).
CREATE TABLE {{leases}} (
    shard INTEGER PRIMARY KEY CHECK (shard = 0),
    owner TEXT,
    epoch INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER NOT NULL DEFAULT 0,
    control_version INTEGER NOT NULL DEFAULT 0
);

INSERT INTO {{leases}} (shard) VALUES (0);

-- The relays that live, and whether they want shards.
CREATE TABLE {{relays}} (
    owner TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    accepting INTEGER NOT NULL
) WITHOUT ROWID;

-- Messages that cannot be delivered. No checks here: a row that is wrong in any way must be able to get out of the way.
CREATE TABLE {{dead_letters}} (
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    aggregate_type TEXT,
    aggregate_id TEXT,
    event_type TEXT,
    content_type TEXT,
    headers TEXT,
    occurred_at INTEGER,
    available_at INTEGER,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    outcome_unknown INTEGER NOT NULL,
    died_at INTEGER NOT NULL,
    payload BLOB,
    PRIMARY KEY (seq, id)
);

CREATE INDEX "{{prefix}}dead_letters_id" ON {{dead_letters}} (id);

-- Keys whose messages wait until an operator lets them go on.
CREATE TABLE {{parked_keys}} (
    aggregate_type TEXT NOT NULL,
    aggregate_id TEXT NOT NULL,
    parked_at INTEGER NOT NULL,
    dead_letter TEXT,
    PRIMARY KEY (aggregate_type, aggregate_id)
) WITHOUT ROWID;
