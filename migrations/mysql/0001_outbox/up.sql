-- The transactional outbox for MySQL 8.0.17+ and MariaDB 10.6+. A row of the messages table is a message that waits for delivery;
-- delivered ones are deleted.
--
-- DDL is not transactional here: every statement can be run again, so that a migration that stopped half-way goes on. A statement
-- ends with the line that ends with a semicolon.

-- Writers give aggregate_type, aggregate_id (or none), event_type and payload, and may give id (16 bytes), content_type, headers,
-- occurred_at and available_at (UTC, whatever the session's time zone). Everything else belongs to the database and the relay.
--
-- Never write seq yourself: neither server allows a CHECK over an AUTO_INCREMENT column that would refuse it. Insert with VALUES, at
-- most some hundred rows a statement: the relay's order rule counts on a row being in the table at most 0.25 s after the server drew
-- its seq (the storage's visibility_margin), and INSERT … SELECT and LOAD DATA draw up to 65,535 at once, long before their rows
-- are there.
--
-- shard is a DEFAULT with a CHECK, because MariaDB allows no generated column in a primary key. A default may refer to columns
-- before it only, so id and the key come first. It is computed from the bytes of the key, which no collation changes.
--
-- Texts have room for one character and the id for one byte more than their checks allow: without strict mode the server cuts what
-- is too long to the width of the column, and the checks refuse what was cut.
--
-- utf8mb4_bin is the one binary collation that both servers have. It ignores trailing spaces: never compare keys with it.
CREATE TABLE IF NOT EXISTS {{messages}} (
    seq bigint NOT NULL AUTO_INCREMENT,
    -- The introducers keep the dash from having another charset than uuid(), which MySQL would then convert and compute only once
    -- in a statement with several rows.
    id varbinary(17) NOT NULL DEFAULT (unhex(replace(uuid(), _latin1'-', _latin1''))),
    aggregate_type varchar(256) NOT NULL,
    aggregate_id varchar(256),
    shard smallint NOT NULL DEFAULT (crc32(coalesce(
        concat(cast(aggregate_type AS binary), x'1f', cast(aggregate_id AS binary)), id)) & 63),
    event_type varchar(256) NOT NULL,
    payload longblob NOT NULL,
    content_type varchar(256) NOT NULL DEFAULT 'application/json',
    headers json NOT NULL DEFAULT ('{}'),
    occurred_at datetime(6) NOT NULL DEFAULT (utc_timestamp(6)),
    available_at datetime(6),
    attempts integer NOT NULL DEFAULT 0,
    retry_at datetime(6),
    last_error text,
    wake_at datetime(6) GENERATED ALWAYS AS (coalesce(retry_at, available_at)) STORED,
    PRIMARY KEY (shard, seq),
    -- AUTO_INCREMENT wants an index that begins with it, and the relay reads by it.
    KEY {{prefix}}messages_seq (seq),
    -- Scheduled messages and those that wait for their next attempt. There are no partial indexes here: a message that does not
    -- wait has an entry too, with NULL, which sorts before every time. The shard does not come first: a range of one would end in the
    -- entries of the next, which MariaDB runs through while they are deleted and not purged.
    KEY {{prefix}}messages_wake (wake_at, seq),
    CONSTRAINT {{prefix}}messages_shard CHECK (shard = (crc32(coalesce(
        concat(cast(aggregate_type AS binary), x'1f', cast(aggregate_id AS binary)), id)) & 63)),
    CONSTRAINT {{prefix}}messages_id CHECK (octet_length(id) = 16),
    CONSTRAINT {{prefix}}messages_aggregate_type CHECK (char_length(aggregate_type) BETWEEN 1 AND 255),
    CONSTRAINT {{prefix}}messages_aggregate_id CHECK (char_length(aggregate_id) BETWEEN 1 AND 255),
    CONSTRAINT {{prefix}}messages_event_type CHECK (char_length(event_type) BETWEEN 1 AND 255),
    CONSTRAINT {{prefix}}messages_content_type CHECK (char_length(content_type) BETWEEN 1 AND 255),
    CONSTRAINT {{prefix}}messages_headers CHECK (json_valid(headers) AND json_type(headers) = 'OBJECT'),
    CONSTRAINT {{prefix}}messages_occurred_at CHECK (occurred_at >= TIMESTAMP'0001-01-01 00:00:00'),
    CONSTRAINT {{prefix}}messages_available_at CHECK (available_at >= TIMESTAMP'0001-01-01 00:00:00'),
    CONSTRAINT {{prefix}}messages_attempts CHECK (attempts >= 0)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Which relay owns which shard. One row a shard; the number of rows is the number of shards.
CREATE TABLE IF NOT EXISTS {{leases}} (
    shard smallint NOT NULL,
    owner binary(16),
    epoch bigint NOT NULL DEFAULT 0,
    expires_at datetime(6),
    control_version bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (shard)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

INSERT INTO {{leases}} (shard) VALUES
    (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15),
    (16), (17), (18), (19), (20), (21), (22), (23), (24), (25), (26), (27), (28), (29), (30), (31),
    (32), (33), (34), (35), (36), (37), (38), (39), (40), (41), (42), (43), (44), (45), (46), (47),
    (48), (49), (50), (51), (52), (53), (54), (55), (56), (57), (58), (59), (60), (61), (62), (63)
ON DUPLICATE KEY UPDATE epoch = epoch;

-- Relays that are alive, by their last heartbeat.
CREATE TABLE IF NOT EXISTS {{relays}} (
    owner binary(16) NOT NULL,
    name text NOT NULL,
    seen_at datetime(6) NOT NULL,
    accepting boolean NOT NULL,
    PRIMARY KEY (owner)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Messages that are not delivered, with the reason. It has none of the checks of the messages table, because a row that got
-- around them ends here; so headers is a text.
CREATE TABLE IF NOT EXISTS {{dead_letters}} (
    shard smallint NOT NULL,
    seq bigint NOT NULL,
    id varbinary(17) NOT NULL,
    aggregate_type varchar(256) NOT NULL,
    aggregate_id varchar(256),
    event_type varchar(256) NOT NULL,
    payload longblob NOT NULL,
    content_type varchar(256) NOT NULL,
    headers longtext NOT NULL,
    occurred_at datetime(6) NOT NULL,
    available_at datetime(6),
    attempts integer NOT NULL,
    reason varchar(255) NOT NULL,
    error text NOT NULL,
    outcome_unknown boolean NOT NULL,
    died_at datetime(6) NOT NULL DEFAULT (utc_timestamp(6)),
    PRIMARY KEY (seq, id),
    KEY {{prefix}}dead_letters_id (id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Keys whose messages wait until an operator acts: parked by hand, or with the dead letter named here. The columns of the key are
-- bytes, so that only equal keys are equal; 255 characters have 1,020 at most.
CREATE TABLE IF NOT EXISTS {{parked_keys}} (
    shard smallint NOT NULL,
    aggregate_type varbinary(1020) NOT NULL,
    aggregate_id varbinary(1020) NOT NULL,
    parked_at datetime(6) NOT NULL DEFAULT (utc_timestamp(6)),
    dead_letter_id varbinary(17),
    PRIMARY KEY (shard, aggregate_type, aggregate_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
