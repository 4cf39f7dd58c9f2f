//! Statements on held messages and parked keys. `$1` is the consumer.

/// Whether the held message `h` may be taken by the claim `$2`.
pub(super) const FREE: &str = "(h.claim = $2 OR (h.due_at <= statement_timestamp() \
    AND (h.claim IS NULL OR h.claimed_until <= statement_timestamp())))";

/// The claim's own messages and those that are due longest: the usual way, a short range.
pub(super) const DUE: &str = "(SELECT h.seq, h.ordering_key FROM {{held}} AS h WHERE h.claim = $2 AND h.consumer = $1) \
    UNION ALL (SELECT h.seq, h.ordering_key FROM {{held}} AS h WHERE h.consumer = $1 AND h.due_at <= statement_timestamp() \
    AND (h.claim IS NULL OR h.claimed_until <= statement_timestamp()) ORDER BY h.due_at LIMIT 1000)";

/// The first message of each key, when those that are due longest all wait behind others.
pub(super) const EACH_KEY: &str = "(SELECT f.seq, p.ordering_key FROM {{parked_keys}} AS p CROSS JOIN LATERAL \
    (SELECT h.seq, h.claim, h.claimed_until, h.due_at FROM {{held}} AS h WHERE h.consumer = $1 \
    AND h.ordering_key = p.ordering_key ORDER BY h.seq LIMIT 1) AS f WHERE p.consumer = $1 AND p.reason = 'held' \
    AND f.due_at <= statement_timestamp() AND (f.claim IS NULL OR f.claimed_until <= statement_timestamp())) \
    UNION ALL (SELECT h.seq, NULL FROM {{held}} AS h WHERE h.consumer = $1 AND h.ordering_key IS NULL \
    AND h.due_at <= statement_timestamp() AND (h.claim IS NULL OR h.claimed_until <= statement_timestamp()) \
    ORDER BY h.due_at LIMIT $4)";

/// Locks the first messages of the candidates' keys; whoever locks one may take what follows it. A message that is being completed is locked
/// too, and skipped. `$3` is the lease, `$4` the limit.
pub(super) const CLAIM: &str = "WITH candidate AS MATERIALIZED ({CANDIDATES}), \
    head AS MATERIALIZED (SELECT f.seq FROM (SELECT DISTINCT c.ordering_key FROM candidate AS c \
        WHERE c.ordering_key IS NOT NULL) AS k CROSS JOIN LATERAL (SELECT h.seq FROM {{held}} AS h \
        WHERE h.consumer = $1 AND h.ordering_key = k.ordering_key ORDER BY h.seq LIMIT 1) AS f \
        WHERE NOT EXISTS (SELECT FROM {{parked_keys}} AS p WHERE p.consumer = $1 AND p.ordering_key = k.ordering_key \
        AND p.reason <> 'held') AND NOT EXISTS (SELECT FROM {{held}} AS o WHERE o.consumer = $1 \
        AND o.ordering_key = k.ordering_key AND o.claim IS NOT NULL AND o.claim <> $2 \
        AND o.claimed_until > statement_timestamp()) \
        UNION ALL SELECT c.seq FROM candidate AS c WHERE c.ordering_key IS NULL), \
    locked AS MATERIALIZED (SELECT h.seq, h.ordering_key FROM (SELECT DISTINCT seq FROM head) AS first \
        JOIN {{held}} AS h ON h.seq = first.seq WHERE h.consumer = $1 AND {FREE} \
        ORDER BY h.seq LIMIT $4 FOR UPDATE OF h SKIP LOCKED), \
    run AS MATERIALIZED (SELECT locked.seq FROM locked WHERE locked.ordering_key IS NULL \
        UNION ALL SELECT r.seq FROM locked CROSS JOIN LATERAL (SELECT f.seq, bool_and(coalesce(f.claim = $2, false) \
        OR f.due_at <= statement_timestamp()) OVER (ORDER BY f.seq) AS may_go FROM (SELECT h.seq, h.claim, h.due_at \
        FROM {{held}} AS h WHERE h.consumer = $1 AND h.ordering_key = locked.ordering_key AND h.seq >= locked.seq \
        ORDER BY h.seq LIMIT $4) AS f) AS r WHERE locked.ordering_key IS NOT NULL AND r.may_go), \
    picked AS MATERIALIZED (SELECT h.seq FROM run JOIN {{held}} AS h ON h.seq = run.seq \
        ORDER BY coalesce(h.claim = $2, false) DESC, h.seq LIMIT $4) \
    UPDATE {{held}} AS h SET status = 'processing', claim = $2, \
        claimed_until = statement_timestamp() + $3 * interval '1 microsecond' \
        FROM picked WHERE h.seq = picked.seq AND h.consumer = $1 AND {FREE} RETURNING {COLUMNS}";

/// `$2` is the message, `$3` the claim, `$4` the attempts, `$5` the delay, `$6` the error.
pub(super) const FAIL: &str = "UPDATE {{held}} SET status = 'failed', attempts = $4, error = $6, claim = NULL, claimed_until = NULL, \
    due_at = clock_timestamp() + $5 * interval '1 microsecond' \
    WHERE seq = $2 AND consumer = $1 AND status = 'processing' AND claim = $3 RETURNING 1";

/// `$2` is the message, `$3` the claim.
pub(super) const FIND_MINE: &str = "SELECT source, id, ordering_key FROM {{held}} \
    WHERE seq = $2 AND consumer = $1 AND status = 'processing' AND claim = $3";

/// Sets a dedup row, whatever became of it, and so locks it. `$2` and `$3` are the identity, `$4` the status.
pub(super) const SET_MESSAGE: &str = "INSERT INTO {{messages}} (consumer, source, id, status) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (consumer, source, id) DO UPDATE SET status = excluded.status, processed_at = clock_timestamp() RETURNING 1";

/// Parks a key for reason `$3`, unless a stronger one has parked it. Its row is locked in any case.
pub(super) const PARK: &str = "INSERT INTO {{parked_keys}} AS known (consumer, ordering_key, reason) VALUES ($1, $2, $3) \
    ON CONFLICT (consumer, ordering_key) DO UPDATE SET reason = excluded.reason \
    WHERE known.reason = 'held' OR (known.reason = 'dead_letter' AND excluded.reason = 'operator') RETURNING 1";

/// Moves a held message of the claim `$3`; `$4` are the attempts, `$5` the reason, `$6` the error, `$7` whether it parks its key.
pub(super) const BURY: &str = "WITH h AS (DELETE FROM {{held}} AS h WHERE h.seq = $2 AND h.consumer = $1 AND h.status = 'processing' \
    AND h.claim = $3 RETURNING h.*) \
    INSERT INTO {{dead_letters}} (consumer, seq, source, id, ordering_key, stream, partition, position, record_key, headers, payload, \
    sent_at, redelivered, attempts, reason, error, parks_key) SELECT h.consumer, h.seq, h.source, h.id, h.ordering_key, h.stream, \
    h.partition, h.position, h.record_key, h.headers, h.payload, h.sent_at, h.redelivered, $4, $5, $6, $7 FROM h RETURNING 1";

/// `$2` is the claim.
pub(super) const RELEASE: &str = "UPDATE {{held}} SET claim = NULL, claimed_until = NULL, \
    status = CASE WHEN attempts > 0 THEN 'failed' ELSE 'waiting' END WHERE claim = $2 AND consumer = $1 RETURNING 1";

/// Those of the keys `$2` that are parked for what is held, with nothing held, as far as can be seen without a lock.
pub(super) const UNHELD: &str = "SELECT p.ordering_key FROM {{parked_keys}} AS p WHERE p.consumer = $1 AND p.ordering_key = ANY ($2) \
    AND p.reason = 'held' AND NOT EXISTS (SELECT FROM {{held}} AS h WHERE h.consumer = $1 AND h.ordering_key = p.ordering_key)";

/// Locks the row of the key `$2`.
pub(super) const LOCK_KEY: &str =
    "SELECT reason FROM {{parked_keys}} WHERE consumer = $1 AND ordering_key = $2 FOR UPDATE";

/// Removes the row of the key `$2` when nothing is held of it.
pub(super) const REMOVE_HELD: &str = "DELETE FROM {{parked_keys}} AS p WHERE p.consumer = $1 AND p.ordering_key = $2 \
    AND p.reason = 'held' AND NOT EXISTS (SELECT FROM {{held}} AS h WHERE h.consumer = $1 AND h.ordering_key = p.ordering_key) \
    RETURNING 1";

/// Counts, and the microseconds until the first message of some key is due and free.
pub(super) const BACKLOG: &str = "SELECT \
    (SELECT count(*) FROM (SELECT FROM {{held}} WHERE consumer = $1 LIMIT 10000) AS held), \
    (SELECT count(*) FROM (SELECT FROM {{parked_keys}} WHERE consumer = $1 LIMIT 10000) AS parked), \
    (SELECT count(*) FROM (SELECT FROM {{dead_letters}} WHERE consumer = $1 LIMIT 10000) AS dead), \
    (SELECT greatest(0, (extract(epoch FROM min(next.free_at) - statement_timestamp()) * 1000000)::bigint) FROM ( \
        SELECT greatest(f.due_at, f.claimed_until) AS free_at FROM (SELECT ordering_key FROM {{parked_keys}} \
        WHERE consumer = $1 AND reason = 'held' LIMIT 10000) AS p CROSS JOIN LATERAL (SELECT h.due_at, h.claimed_until \
        FROM {{held}} AS h WHERE h.consumer = $1 AND h.ordering_key = p.ordering_key ORDER BY h.seq LIMIT 1) AS f \
        UNION ALL (SELECT greatest(h.due_at, h.claimed_until) FROM {{held}} AS h WHERE h.consumer = $1 \
        AND h.ordering_key IS NULL ORDER BY h.due_at LIMIT 1000)) AS next \
        HAVING min(next.free_at) IS NOT NULL)";
