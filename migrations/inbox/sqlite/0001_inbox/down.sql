DROP TABLE {{horizons}};
DROP TABLE {{positions}};
DROP TABLE {{dead_letters}};
DROP TABLE {{parked_keys}};
DROP TABLE {{held}};
DROP TABLE {{held_seq}};
DROP TABLE {{messages}};
