//! What `profilesync store …` does without a daemon.
