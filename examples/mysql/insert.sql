-- Appends an event from SQL. Any language does the same: a plain INSERT in the transaction that changes the data.
--
--   mysql --host 127.0.0.1 --user root outbox < examples/mysql/insert.sql
--
-- The payload column holds bytes and takes any text. Keep sql_mode strict, as it is by default: without it the server changes what
-- does not fit instead of refusing it. Insert with VALUES, at most some hundred rows a statement, never with INSERT … SELECT or LOAD
-- DATA, which take numbers for rows that come much later: the relay's order counts on rows that follow their numbers at once.

START TRANSACTION;

INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload)
VALUES ('order', '7', 'order.placed', '{"total_cents":1250}');

-- Optional: an id of your own, 16 bytes (consumers deduplicate on it), headers, and times, which are in UTC.
INSERT INTO outbox_messages (id, aggregate_type, aggregate_id, event_type, payload, headers, available_at)
VALUES (
    unhex(replace('0190a8c1-7c5e-7b7c-8a5e-0123456789ab', '-', '')), 'order', '7', 'order.paid', '{"by":"card"}',
    '{"correlation-id":"c-1"}', utc_timestamp(6) + INTERVAL 1 MINUTE
);

COMMIT;
