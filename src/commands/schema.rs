//! Stand-in until the command is merged.
