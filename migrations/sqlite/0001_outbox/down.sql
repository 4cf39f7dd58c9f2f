DROP TABLE {{parked_keys}};
DROP TABLE {{dead_letters}};
DROP TABLE {{relays}};
DROP TABLE {{leases}};
DROP TABLE {{messages}};
