#!/usr/bin/env python3
"""Appends two events from Python with plain INSERTs, in one transaction.

    python3 examples/python/insert.py postgres://postgres@127.0.0.1:5432/postgres 7   # needs psycopg or psycopg2
    python3 examples/python/insert.py mysql://root@127.0.0.1:3306/shop 7              # needs pymysql
    python3 examples/python/insert.py sqlite:orders.db 7                              # needs nothing

The relay (`outbox relay --database URL --kafka HOST:PORT`, or `--amqp amqp://…`) delivers them, in order, with the key given last.
"""

import json
import sys
import uuid
from urllib.parse import unquote, urlsplit


def connect(url):
    """A connection, the placeholder of its driver, and what the id column takes."""
    if url.startswith("sqlite:"):
        import sqlite3

        return sqlite3.connect(url.removeprefix("sqlite:").removeprefix("//"), timeout=30), "?", str
    if url.startswith("mysql://"):
        import pymysql

        server = urlsplit(url)
        connection = pymysql.connect(
            host=server.hostname,
            port=server.port or 3306,
            user=unquote(server.username or ""),
            password=unquote(server.password or ""),
            database=server.path.lstrip("/"),
        )
        return connection, "%s", lambda message_id: message_id.bytes
    try:
        import psycopg as driver
    except ImportError:
        import psycopg2 as driver
    return driver.connect(url), "%s", str


def main(url, order_id):
    connection, mark, id_column = connect(url)
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
            id_column(uuid.uuid4()),
            "order",
            order_id,
            "order.paid",
            json.dumps({"by": "card"}).encode(),
            json.dumps({"correlation-id": "c-1"}),
        ),
    )
    connection.commit()  # the program ends before this line on an exception, which rolls both back
    connection.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
