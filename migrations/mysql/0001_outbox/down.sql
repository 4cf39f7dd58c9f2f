-- Drops the outbox with every message that was not delivered and every dead letter.

DROP TABLE IF EXISTS {{parked_keys}};
DROP TABLE IF EXISTS {{dead_letters}};
DROP TABLE IF EXISTS {{relays}};
DROP TABLE IF EXISTS {{leases}};
DROP TABLE IF EXISTS {{messages}};
