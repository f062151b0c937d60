//! The `ldap` output: entries of an LDAP directory.
