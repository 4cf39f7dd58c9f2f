-- Drops the inbox with everything that it remembers and holds.

DROP TABLE IF EXISTS {{horizons}};
DROP TABLE IF EXISTS {{positions}};
DROP TABLE IF EXISTS {{dead_letters}};
DROP TABLE IF EXISTS {{parked_keys}};
DROP TABLE IF EXISTS {{held}};
DROP TABLE IF EXISTS {{messages}};
