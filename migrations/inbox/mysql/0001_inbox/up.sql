-- The inbox for MySQL 8.0.17+ and MariaDB 10.6+: what a consumer has processed, and what it keeps until it is. Nothing but the inbox
-- writes here.
--
-- DDL is not transactional here: every statement can be run again, so that a migration that stopped half-way goes on. A statement
-- ends with the line that ends with a semicolon.
--
-- Texts that are compared are bytes: the one binary collation that both servers have ignores trailing spaces. Times are UTC.

-- Identities that were seen. A row is inserted in the transaction that processes its message, and purged by age once it is processed:
-- what is held or dead stays known. The token names the transaction that inserted the row: the server's counts do not tell a row that was
-- inserted from one that was there.
CREATE TABLE IF NOT EXISTS {{messages}} (
    consumer varbinary(255) NOT NULL,
    source varbinary(255) NOT NULL,
    id varbinary(255) NOT NULL,
    status varchar(16) NOT NULL DEFAULT 'processed',
    processed_at datetime(6) NOT NULL DEFAULT (utc_timestamp(6)),
    token binary(16),
    PRIMARY KEY (consumer, source, id),
    -- What a purge removes, oldest first: the range of the processed ones holds nothing that is held or dead.
    KEY {{prefix}}messages_purge (consumer, status, processed_at),
    CONSTRAINT {{prefix}}messages_status CHECK (status IN ('processed', 'held', 'dead'))
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Messages that are processed later: failed ones, those behind them, and all in durable mode. Their numbers are the dead letters' too:
-- a replayed one keeps its own.
CREATE TABLE IF NOT EXISTS {{held}} (
    seq bigint NOT NULL AUTO_INCREMENT,
    consumer varbinary(255) NOT NULL,
    source varbinary(255),
    id varbinary(255),
    ordering_key varbinary(255),
    stream varbinary(255) NOT NULL,
    `partition` integer NOT NULL,
    position bigint NOT NULL,
    record_key longblob,
    headers longtext NOT NULL,
    payload longblob,
    sent_at datetime(6),
    redelivered boolean NOT NULL,
    status varchar(16) NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due_at datetime(6) NOT NULL DEFAULT (utc_timestamp(6)),
    claim binary(16),
    claimed_until datetime(6),
    error text,
    PRIMARY KEY (seq),
    -- What is due; the messages of a key in their order; those without a key that are due; what is claimed. There are no partial indexes
    -- here: NULL sorts first, so that a claim's range holds nothing but claims.
    KEY {{prefix}}held_due (consumer, due_at),
    KEY {{prefix}}held_key (consumer, ordering_key, seq),
    KEY {{prefix}}held_keyless (consumer, ordering_key, due_at),
    KEY {{prefix}}held_claimed (consumer, claimed_until, claim, ordering_key),
    CONSTRAINT {{prefix}}held_status CHECK (status IN ('received', 'waiting', 'failed', 'processing')),
    CONSTRAINT {{prefix}}held_claim CHECK ((status = 'processing') = (claim IS NOT NULL)
        AND (claim IS NULL) = (claimed_until IS NULL)),
    CONSTRAINT {{prefix}}held_identity CHECK ((source IS NULL) = (id IS NULL))
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Keys whose later messages go behind what is held of them, or wait for an operator.
CREATE TABLE IF NOT EXISTS {{parked_keys}} (
    consumer varbinary(255) NOT NULL,
    ordering_key varbinary(255) NOT NULL,
    reason varchar(16) NOT NULL,
    parked_at datetime(6) NOT NULL DEFAULT (utc_timestamp(6)),
    PRIMARY KEY (consumer, ordering_key),
    CONSTRAINT {{prefix}}parked_keys_reason CHECK (reason IN ('held', 'dead_letter', 'operator'))
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Messages that were given up, as they came, with the reason.
CREATE TABLE IF NOT EXISTS {{dead_letters}} (
    seq bigint NOT NULL,
    consumer varbinary(255) NOT NULL,
    source varbinary(255),
    id varbinary(255),
    ordering_key varbinary(255),
    stream varbinary(255) NOT NULL,
    `partition` integer NOT NULL,
    position bigint NOT NULL,
    record_key longblob,
    headers longtext NOT NULL,
    payload longblob,
    sent_at datetime(6),
    redelivered boolean NOT NULL,
    attempts integer NOT NULL,
    reason varchar(32) NOT NULL,
    error text NOT NULL,
    parks_key boolean NOT NULL,
    died_at datetime(6) NOT NULL DEFAULT (utc_timestamp(6)),
    PRIMARY KEY (consumer, seq),
    KEY {{prefix}}dead_letters_seq (seq),
    KEY {{prefix}}dead_letters_parking (consumer, ordering_key, parks_key)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- How far partitions were consumed.
CREATE TABLE IF NOT EXISTS {{positions}} (
    consumer varbinary(255) NOT NULL,
    stream varbinary(255) NOT NULL,
    `partition` integer NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (consumer, stream, `partition`)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Identities that were processed before a consumer's horizon may have been purged.
CREATE TABLE IF NOT EXISTS {{horizons}} (
    consumer varbinary(255) NOT NULL,
    horizon datetime(6) NOT NULL,
    PRIMARY KEY (consumer)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
