-- Appends an event from SQL. Any language does the same: a plain INSERT in the transaction that changes the data.
--
--   psql postgres://postgres@127.0.0.1:5432/postgres --file examples/psql/insert.sql
--
-- The payload column holds bytes. A quoted literal is read in bytea's escape format: JSON works as it is unless it holds a
-- backslash; convert_to(…, 'UTF8') takes any text.

BEGIN;

INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload)
VALUES ('order', '7', 'order.placed', '{"total_cents":1250}');

-- Optional: an id of your own (consumers deduplicate on it) and headers.
INSERT INTO outbox_messages (id, aggregate_type, aggregate_id, event_type, payload, headers)
VALUES (gen_random_uuid(), 'order', '7', 'order.paid', convert_to('{"by":"card \"1\""}', 'UTF8'), '{"correlation-id": "c-1"}');

COMMIT;
