-- The inbox: what a consumer has processed, and what it keeps until it is. Nothing but the inbox writes here.

-- Identities that were seen. A row is inserted in the transaction that processes its message, and purged by age
-- once it is processed: what is held or dead stays known.
CREATE TABLE {{messages}} (
    consumer text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL DEFAULT 'processed',
    processed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT {{prefix}}messages_pkey PRIMARY KEY (consumer, source, id),
    CONSTRAINT {{prefix}}messages_status CHECK (status IN ('processed', 'held', 'dead'))
) WITH (
    -- Inserted at the rate of messages and purged in batches: vacuum by count, not by share of a large table.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 50000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 500000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000
);

-- What a purge removes, oldest first.
CREATE INDEX {{prefix}}messages_purge ON {{messages}} (consumer, processed_at) WHERE status = 'processed';

-- Numbers of held messages and dead letters: a replayed one keeps its own.
CREATE SEQUENCE {{held_seq}} AS bigint CACHE 1 NO CYCLE;

-- Messages that are processed later: failed ones, those behind them, and all in durable mode.
CREATE TABLE {{held}} (
    seq bigint NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    source text COLLATE "C",
    id text COLLATE "C",
    ordering_key bytea,
    stream text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    record_key bytea,
    headers text NOT NULL,
    payload bytea,
    sent_at timestamptz,
    redelivered boolean NOT NULL,
    status text COLLATE "C" NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    claim uuid,
    claimed_until timestamptz,
    error text,
    CONSTRAINT {{prefix}}held_pkey PRIMARY KEY (seq),
    CONSTRAINT {{prefix}}held_status CHECK (status IN ('received', 'waiting', 'failed', 'processing')),
    CONSTRAINT {{prefix}}held_claim CHECK ((status = 'processing') = (claim IS NOT NULL)
        AND (claim IS NULL) = (claimed_until IS NULL)),
    CONSTRAINT {{prefix}}held_identity CHECK ((source IS NULL) = (id IS NULL))
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000
);

-- What is due; the messages of a key in their order; those without a key that are due; a claim's own; keys that are worked on.
CREATE INDEX {{prefix}}held_due ON {{held}} (consumer, due_at);
CREATE INDEX {{prefix}}held_key ON {{held}} (consumer, ordering_key, seq) WHERE ordering_key IS NOT NULL;
CREATE INDEX {{prefix}}held_keyless ON {{held}} (consumer, due_at) WHERE ordering_key IS NULL;
CREATE INDEX {{prefix}}held_claims ON {{held}} (claim) WHERE claim IS NOT NULL;
CREATE INDEX {{prefix}}held_claimed_keys ON {{held}} (consumer, ordering_key) WHERE claim IS NOT NULL;

-- Keys whose later messages go behind what is held of them, or wait for an operator.
CREATE TABLE {{parked_keys}} (
    consumer text COLLATE "C" NOT NULL,
    ordering_key bytea NOT NULL,
    reason text COLLATE "C" NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT {{prefix}}parked_keys_pkey PRIMARY KEY (consumer, ordering_key),
    CONSTRAINT {{prefix}}parked_keys_reason CHECK (reason IN ('held', 'dead_letter', 'operator'))
);

-- Messages that were given up, as they came, with the reason.
CREATE TABLE {{dead_letters}} (
    seq bigint NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    source text COLLATE "C",
    id text COLLATE "C",
    ordering_key bytea,
    stream text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    record_key bytea,
    headers text NOT NULL,
    payload bytea,
    sent_at timestamptz,
    redelivered boolean NOT NULL,
    attempts integer NOT NULL,
    reason text COLLATE "C" NOT NULL,
    error text NOT NULL,
    parks_key boolean NOT NULL,
    died_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT {{prefix}}dead_letters_pkey PRIMARY KEY (consumer, seq)
);

CREATE INDEX {{prefix}}dead_letters_parking ON {{dead_letters}} (consumer, ordering_key) WHERE parks_key;

-- How far partitions were consumed.
CREATE TABLE {{positions}} (
    consumer text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT {{prefix}}positions_pkey PRIMARY KEY (consumer, stream, partition)
);

-- Identities that were processed before a consumer's horizon may have been purged.
CREATE TABLE {{horizons}} (
    consumer text COLLATE "C" NOT NULL,
    horizon timestamptz NOT NULL,
    CONSTRAINT {{prefix}}horizons_pkey PRIMARY KEY (consumer)
);
