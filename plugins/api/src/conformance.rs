//! The checks every target must pass, against its real server.
