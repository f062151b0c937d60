//! The `sql` output: rows of a table in PostgreSQL, MySQL, MariaDB or SQLite.
