#!/usr/bin/env python3
"""A profilesync plugin that keeps every profile in a SQLite database.

    python3 mirror.py accounts.db

Python 3.8 and its standard library are enough. To write to something else, change `Outside`; the rest is the protocol
(PROTOCOL.md). Try it with

    profilesync plugin test -- python3 mirror.py /tmp/try.db
"""

import json
import os
import sqlite3
import sys

# The account that `profilesync plugin test` wants refused, to see that no other is taken along.
REJECT = os.environ.get("PROFILESYNC_TEST_REJECT")


class Rejected(Exception):
    """This account's data is refused for good: the account is parked until it changes."""


class Outside:
    """What is written to. Any other exception means that it is unwell: everything is tried again later."""

    def __init__(self, path):
        self.path = path
        self.connection = None

    def connect(self):
        if self.connection is None:
            self.connection = sqlite3.connect(self.path, timeout=5)
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute(
                "CREATE TABLE IF NOT EXISTS accounts ("
                " sdk_app_id INTEGER, account TEXT, revision INTEGER NOT NULL, document TEXT,"
                " PRIMARY KEY (sdk_app_id, account))"
            )
        return self.connection

    def put(self, document):
        """Holds a document, unless a newer one is held. Values go in as parameters, never into the SQL."""
        if document["account"] == REJECT:
            raise Rejected("it is the one to be refused")
        # Of a destroyed account the revision stays, so that an older document cannot bring it back.
        destroyed = document["status"] == "destroyed"
        text = None if destroyed else json.dumps(document)
        self.connect().execute(
            "INSERT INTO accounts VALUES (?, ?, ?, ?) ON CONFLICT (sdk_app_id, account) DO UPDATE"
            " SET revision = excluded.revision, document = excluded.document"
            " WHERE accounts.revision < excluded.revision",
            (document["sdk_app_id"], document["account"], document["revision"], text),
        )

    def commit(self):
        self.connect().commit()

    def get(self, account):
        """What is held of an account, by the names of the document, or None."""
        rows = self.connect().execute(
            "SELECT document FROM accounts WHERE sdk_app_id = ? AND account = ?",
            (account["sdk_app_id"], account["account"]),
        )
        row = rows.fetchone()
        return json.loads(row[0]) if row and row[0] else None

    def check(self):
        """Raises when the outside cannot be reached. It makes nothing: `check --probe` may be run by another user."""
        if os.path.exists(self.path):
            self.connect().execute("SELECT 1 FROM accounts LIMIT 1")
        elif not os.access(os.path.dirname(self.path) or ".", os.W_OK):
            raise OSError(f"{self.path} cannot be made")

    def close(self):
        """Forgets a connection that failed, and what was not committed."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def say(message):
    """One line of JSON. Standard output is for these alone; print(..., file=sys.stderr) goes to the log."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def deliver(outside, deliveries):
    answers = []
    for delivery in deliveries:
        try:
            outside.put(delivery["document"])
            answers.append({"id": delivery["id"], "outcome": "delivered"})
        except Rejected as error:
            answers.append({"id": delivery["id"], "outcome": "rejected", "reason": str(error)})
    # "delivered" is said after all of them are safe, not before.
    outside.commit()
    for answer in answers:
        say(answer)


def serve(outside, request):
    """Answers one request. None is answered twice: what is said here is said at the end."""
    if "deliver" in request:
        deliver(outside, request["deliver"])
    elif "read" in request:
        held = [{"id": asked["id"], "held": outside.get(asked)} for asked in request["read"]]
        for answer in held:
            say(answer)
    elif "probe" in request:
        outside.check()
        say({"id": request["probe"]["id"], "outcome": "ok"})


def ids(request):
    asked = request.get("deliver") or request.get("read") or [request["probe"]]
    return [one["id"] for one in asked]


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: mirror.py DATABASE")
    outside = Outside(sys.argv[1])
    sys.stdin.readline()  # hello: which protocol, which target
    say({"protocol": 1, "batch": 100, "revisions": True, "read_back": True})
    for line in sys.stdin:  # ends when profilesync closes it
        request = json.loads(line)
        try:
            serve(outside, request)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            outside.close()
            for number in ids(request):
                say({"id": number, "outcome": "fault", "reason": str(error)})


if __name__ == "__main__":
    # JSON is UTF-8, whatever the locale says.
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    main()
