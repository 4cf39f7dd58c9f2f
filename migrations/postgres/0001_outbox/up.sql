-- The transactional outbox. A row of the messages table is a message that waits for delivery; delivered ones are deleted.

CREATE SEQUENCE {{seq}} AS bigint CACHE 1 NO CYCLE;

-- Writers give aggregate_type, aggregate_id (or none), event_type and payload, and may give id, content_type, headers,
-- occurred_at and available_at. Everything else belongs to the database and the relay.
--
-- A transaction gets its id before its first seq: the CASE in the default is what lets a relay tell, from a snapshot, which
-- transactions may still write below a given seq. Never write seq yourself.
CREATE TABLE {{messages}} (
    shard smallint NOT NULL GENERATED ALWAYS AS ((
        CASE
            WHEN aggregate_id IS NULL THEN uuid_hash_extended(id, 0)
            ELSE hashtextextended((aggregate_type || chr(31) || aggregate_id) COLLATE "C", 0)
        END & 63)::smallint) STORED,
    seq bigint NOT NULL DEFAULT (CASE WHEN pg_current_xact_id() IS NOT NULL THEN nextval('{{seq}}'::regclass) END),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    aggregate_type varchar(255) NOT NULL,
    aggregate_id varchar(255),
    event_type varchar(255) NOT NULL,
    payload bytea NOT NULL,
    content_type varchar(255) NOT NULL DEFAULT 'application/json',
    headers jsonb NOT NULL DEFAULT '{}',
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    available_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    retry_at timestamptz,
    last_error text,
    wake_at timestamptz GENERATED ALWAYS AS (coalesce(retry_at, available_at)) STORED,
    CONSTRAINT {{prefix}}messages_pkey PRIMARY KEY (shard, seq),
    CONSTRAINT {{prefix}}messages_seq_positive CHECK (seq > 0),
    CONSTRAINT {{prefix}}messages_aggregate_type_not_empty CHECK (aggregate_type <> ''),
    CONSTRAINT {{prefix}}messages_aggregate_id_not_empty CHECK (aggregate_id <> ''),
    CONSTRAINT {{prefix}}messages_event_type_not_empty CHECK (event_type <> ''),
    CONSTRAINT {{prefix}}messages_content_type_not_empty CHECK (content_type <> ''),
    CONSTRAINT {{prefix}}messages_headers_object CHECK (jsonb_typeof(headers) = 'object'),
    CONSTRAINT {{prefix}}messages_occurred_at_range
        CHECK (occurred_at >= '0001-01-01 00:00:00+00' AND occurred_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT {{prefix}}messages_available_at_range
        CHECK (available_at >= '0001-01-01 00:00:00+00' AND available_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT {{prefix}}messages_attempts_positive CHECK (attempts >= 0)
) WITH (
    -- Every row is inserted once and deleted once: vacuum by count, not by share of a table whose size swings, and
    -- without pauses. Statistics of a table that is empty half of the time mislead, so they are refreshed often too.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 20000,
    toast.autovacuum_vacuum_cost_delay = 0
);

ALTER SEQUENCE {{seq}} OWNED BY {{messages}}.seq;

-- Scheduled messages and those that wait for their next attempt.
CREATE INDEX {{prefix}}messages_wake ON {{messages}} (shard, wake_at, seq) WHERE wake_at IS NOT NULL;

-- Which relay owns which shard. One row a shard; the number of rows is the number of shards.
CREATE TABLE {{leases}} (
    shard smallint NOT NULL,
    owner uuid,
    epoch bigint NOT NULL DEFAULT 0,
    expires_at timestamptz,
    control_version bigint NOT NULL DEFAULT 0,
    CONSTRAINT {{prefix}}leases_pkey PRIMARY KEY (shard)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

INSERT INTO {{leases}} (shard) SELECT shard FROM generate_series(0, 63) AS shard;

-- Relays that are alive, by their last heartbeat.
CREATE TABLE {{relays}} (
    owner uuid NOT NULL,
    name text NOT NULL,
    seen_at timestamptz NOT NULL,
    accepting boolean NOT NULL,
    CONSTRAINT {{prefix}}relays_pkey PRIMARY KEY (owner)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Messages that are not delivered, with the reason. It has none of the checks of the messages table, because a row
-- that got around them ends here.
CREATE TABLE {{dead_letters}} (
    shard smallint NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id text,
    event_type text NOT NULL,
    payload bytea NOT NULL,
    content_type text NOT NULL,
    headers jsonb NOT NULL,
    occurred_at timestamptz NOT NULL,
    available_at timestamptz,
    attempts integer NOT NULL,
    reason text NOT NULL,
    error text NOT NULL,
    outcome_unknown boolean NOT NULL,
    died_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT {{prefix}}dead_letters_pkey PRIMARY KEY (seq, id)
);

CREATE INDEX {{prefix}}dead_letters_id ON {{dead_letters}} (id);

-- Keys whose messages wait until an operator acts: parked by hand, or with the dead letter named here.
CREATE TABLE {{parked_keys}} (
    shard smallint NOT NULL,
    aggregate_type text COLLATE "C" NOT NULL,
    aggregate_id text COLLATE "C" NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dead_letter_id uuid,
    CONSTRAINT {{prefix}}parked_keys_pkey PRIMARY KEY (shard, aggregate_type, aggregate_id)
);
