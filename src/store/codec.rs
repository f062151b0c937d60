//! The values of the index as bytes: one byte of version, then postcard. A later version decodes its predecessors.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clock::Millis,
    event::{Field, Stamp},
    merge::{Profile, Register},
    store::{
        index::IndexError,
        records::{Account, DeliveryState, HistoryEntry, TargetState},
    },
};

const V1: u8 = 1;

/// What the index says of itself, written with every batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Every record of the journal up to here is applied.
    pub(crate) applied: u64,
    /// Entries in the index, this one not counted.
    pub(crate) entries: u64,
    /// Wrapping sum over those entries of the CRC-32C of key and value: finds what sled loses silently.
    pub(crate) checksum: u64,
    /// Accounts known.
    pub(crate) accounts: u64,
}

impl Meta {
    /// Takes a new entry into account.
    pub(crate) fn count(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_add(1);
        self.checksum = self.checksum.wrapping_add(checksum(key, value));
    }
}

/// An entry's share of [`Meta::checksum`].
pub(crate) fn checksum(key: &[u8], value: &[u8]) -> u64 {
    u64::from(crc32c::crc32c_append(crc32c::crc32c(key), value))
}

/// A type with a place in the index.
pub(crate) trait Stored: Sized {
    /// The value's bytes.
    fn encode(&self) -> Vec<u8>;
    /// The value of some bytes.
    fn decode(bytes: &[u8]) -> Result<Self, IndexError>;
}

fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![V1]).expect("values hold no type that postcard refuses")
}

fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, IndexError> {
    match bytes.split_first() {
        Some((&V1, rest)) => postcard::from_bytes(rest)
            .map_err(|error| IndexError(format!("a record does not decode: {error}"))),
        Some((version, _)) => Err(IndexError(format!(
            "a record has the unknown version {version}"
        ))),
        None => Err(IndexError("a record is empty".into())),
    }
}

macro_rules! stored_as_it_is {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            fn encode(&self) -> Vec<u8> {
                to_bytes(self)
            }
            fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
                from_bytes(bytes)
            }
        }
    )*};
}

stored_as_it_is!(Meta, TargetState, DeliveryState);

/// postcard is not self-describing, so JSON values are kept as JSON text.
#[derive(Serialize, Deserialize)]
struct AccountV1 {
    alive_at: Millis,
    destroyed_at: Millis,
    fields: Vec<(Field, Stamp, String)>,
    revision: u64,
    changed_seq: u64,
    changed_at: Millis,
    field_revisions: Vec<(Field, u64)>,
    status_revision: u64,
    history: u32,
}

impl Stored for Account {
    fn encode(&self) -> Vec<u8> {
        let fields = self.profile.fields.iter();
        to_bytes(&AccountV1 {
            alive_at: self.profile.alive_at,
            destroyed_at: self.profile.destroyed_at,
            fields: fields
                .map(|(field, register)| {
                    (field.clone(), register.stamp, register.value.to_string())
                })
                .collect(),
            revision: self.revision,
            changed_seq: self.changed_seq,
            changed_at: self.changed_at,
            field_revisions: self
                .field_revisions
                .iter()
                .map(|(field, &at)| (field.clone(), at))
                .collect(),
            status_revision: self.status_revision,
            history: self.history,
        })
    }

    fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let stored: AccountV1 = from_bytes(bytes)?;
        let mut profile = Profile {
            alive_at: stored.alive_at,
            destroyed_at: stored.destroyed_at,
            ..Profile::default()
        };
        for (field, stamp, text) in stored.fields {
            let value = serde_json::from_str(&text)
                .map_err(|error| IndexError(format!("a field is not JSON: {error}")))?;
            profile.fields.insert(field, Register { stamp, value });
        }
        Ok(Self {
            profile,
            revision: stored.revision,
            changed_seq: stored.changed_seq,
            changed_at: stored.changed_at,
            field_revisions: stored.field_revisions.into_iter().collect(),
            status_revision: stored.status_revision,
            history: stored.history,
        })
    }
}

/// The rest of a [`HistoryEntry`] is in its key.
#[derive(Serialize, Deserialize)]
struct HistoryV1<'a> {
    seq: u64,
    received: Millis,
    command: &'a str,
    body: &'a [u8],
}

pub(crate) fn encode_history(seq: u64, received: Millis, command: &str, body: &[u8]) -> Vec<u8> {
    to_bytes(&HistoryV1 {
        seq,
        received,
        command,
        body,
    })
}

pub(crate) fn decode_history(stamp: Stamp, bytes: &[u8]) -> Result<HistoryEntry, IndexError> {
    let (&version, rest) = bytes
        .split_first()
        .ok_or_else(|| IndexError("a record is empty".into()))?;
    if version != V1 {
        return Err(IndexError(format!(
            "a record has the unknown version {version}"
        )));
    }
    let stored: HistoryV1<'_> = postcard::from_bytes(rest)
        .map_err(|error| IndexError(format!("an event does not decode: {error}")))?;
    Ok(HistoryEntry {
        stamp,
        seq: stored.seq,
        received: stored.received,
        command: stored.command.to_owned(),
        body: stored.body.to_vec(),
    })
}
