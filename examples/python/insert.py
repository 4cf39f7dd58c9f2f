#!/usr/bin/env python3
"""Appends two events from Python with plain INSERTs, in one transaction.

    python3 examples/python/insert.py postgres://postgres@127.0.0.1:5432/postgres 7   # needs psycopg or psycopg2
    python3 examples/python/insert.py sqlite:orders.db 7                              # needs nothing

The relay (`outbox relay --database URL --kafka HOST:PORT`) delivers them to the topic `order` with the key given last.
"""

import json
import sys
import uuid


def connect(url):
    """A connection and the placeholder of its driver."""
    if url.startswith("sqlite:"):
        import sqlite3

        return sqlite3.connect(url.removeprefix("sqlite:").removeprefix("//"), timeout=30), "?"
    try:
        import psycopg as driver
    except ImportError:
        import psycopg2 as driver
    return driver.connect(url), "%s"


def main(url, order_id):
    connection, mark = connect(url)
    with connection:  # commits at the end, rolls back on an exception
        cursor = connection.cursor()
        cursor.execute(
            "INSERT INTO outbox_messages (aggregate_type, aggregate_id, event_type, payload)"
            f" VALUES ({mark}, {mark}, {mark}, {mark})",
            ("order", order_id, "order.placed", json.dumps({"total_cents": 1250}).encode()),
        )
        # Optional: an id of your own (consumers deduplicate on it) and headers.
        cursor.execute(
            "INSERT INTO outbox_messages (id, aggregate_type, aggregate_id, event_type, payload, headers)"
            f" VALUES ({mark}, {mark}, {mark}, {mark}, {mark}, {mark})",
            (
                str(uuid.uuid4()),
                "order",
                order_id,
                "order.paid",
                json.dumps({"by": "card"}).encode(),
                json.dumps({"correlation-id": "c-1"}),
            ),
        )
    connection.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
