//! The keys of the index. The first byte is the [`Table`]; integers are big-endian, so that order in the index is
//! order in value; an account is its app, its name and a 0 byte, which no name contains.

use crate::{
    clock::Millis,
    event::{AccountId, Stamp},
    store::records::TargetId,
};

/// What an entry is. The order matters to snapshots: see `snapshot.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Table {
    /// One entry: format, sequence number applied, checksum.
    Meta = 1,
    /// Target name → `TargetState`.
    Target = 2,
    /// Target number, account → `DeliveryState`.
    Delivery = 3,
    /// Account → `Account`.
    Account = 4,
    /// Account, `EventTime`, digest → `HistoryEntry`.
    History = 5,
    /// Sequence number → account. Derived from the accounts.
    Change = 6,
    /// Target number, time, account → nothing. Derived from the deliveries.
    Retry = 7,
}

impl Table {
    /// All of them, in the order of their keys.
    pub(crate) const ALL: [Self; 7] = [
        Self::Meta,
        Self::Target,
        Self::Delivery,
        Self::Account,
        Self::History,
        Self::Change,
        Self::Retry,
    ];

    /// The table of a key.
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        let first = *key.first()?;
        Self::ALL.into_iter().find(|&table| table as u8 == first)
    }

    /// The half-open range of all keys of the table.
    pub(crate) fn range(self) -> (Vec<u8>, Vec<u8>) {
        (vec![self as u8], vec![self as u8 + 1])
    }
}

pub(crate) const META: &[u8] = &[Table::Meta as u8];

/// The first key after all that begin with `prefix`, none of which continues with 255 bytes of `0xFF`.
pub(crate) fn after(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return prefix;
        }
    }
    vec![u8::MAX]
}

pub(crate) fn target(name: &str) -> Vec<u8> {
    let mut key = vec![Table::Target as u8];
    key.extend_from_slice(name.as_bytes());
    key
}

pub(crate) fn account(id: &AccountId) -> Vec<u8> {
    let mut key = vec![Table::Account as u8];
    push_account(&mut key, id);
    key
}

/// The common beginning of an account's history.
pub(crate) fn history_of(id: &AccountId) -> Vec<u8> {
    let mut key = vec![Table::History as u8];
    push_account(&mut key, id);
    key
}

pub(crate) fn history(id: &AccountId, stamp: &Stamp) -> Vec<u8> {
    let mut key = history_of(id);
    key.extend_from_slice(&stamp.time.to_be_bytes());
    key.extend_from_slice(&stamp.digest);
    key
}

pub(crate) fn change(seq: u64) -> Vec<u8> {
    let mut key = vec![Table::Change as u8];
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// The common beginning of a target's deliveries.
pub(crate) fn deliveries_of(target: TargetId) -> Vec<u8> {
    let mut key = vec![Table::Delivery as u8];
    key.extend_from_slice(&target.to_be_bytes());
    key
}

pub(crate) fn delivery(target: TargetId, id: &AccountId) -> Vec<u8> {
    let mut key = deliveries_of(target);
    push_account(&mut key, id);
    key
}

/// The common beginning of a target's retries.
pub(crate) fn retries_of(target: TargetId) -> Vec<u8> {
    let mut key = vec![Table::Retry as u8];
    key.extend_from_slice(&target.to_be_bytes());
    key
}

pub(crate) fn retry(target: TargetId, at: Millis, id: &AccountId) -> Vec<u8> {
    let mut key = retries_of(target);
    key.extend_from_slice(&at.to_be_bytes());
    push_account(&mut key, id);
    key
}

fn push_account(key: &mut Vec<u8>, id: &AccountId) {
    key.extend_from_slice(&id.app.to_be_bytes());
    key.extend_from_slice(id.account.as_bytes());
    key.push(0);
}

/// The account that `bytes` begins with, and what follows it.
pub(crate) fn read_account(bytes: &[u8]) -> Option<(AccountId, &[u8])> {
    let (app, rest) = read_u64(bytes)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    let account = String::from_utf8(rest[..end].to_vec()).ok()?;
    Some((AccountId { app, account }, &rest[end + 1..]))
}

/// The account of a key of [`Table::Account`].
pub(crate) fn read_account_key(key: &[u8]) -> Option<AccountId> {
    Some(read_account(key.get(1..)?)?.0)
}

/// Target and account of a key of [`Table::Delivery`].
pub(crate) fn read_delivery(key: &[u8]) -> Option<(TargetId, AccountId)> {
    let (target, rest) = key.get(1..)?.split_first_chunk::<4>()?;
    Some((TargetId::from_be_bytes(*target), read_account(rest)?.0))
}

/// Account and stamp of a key of [`Table::History`].
pub(crate) fn read_history(key: &[u8]) -> Option<(AccountId, Stamp)> {
    let (id, rest) = read_account(key.get(1..)?)?;
    let (time, digest) = read_u64(rest)?;
    Some((
        id,
        Stamp {
            time,
            digest: digest.try_into().ok()?,
        },
    ))
}

/// The sequence number of a key of [`Table::Change`].
pub(crate) fn read_change(key: &[u8]) -> Option<u64> {
    Some(read_u64(key.get(1..)?)?.0)
}

/// Time and account of a key of [`Table::Retry`].
pub(crate) fn read_retry(key: &[u8]) -> Option<(Millis, AccountId)> {
    let (at, rest) = read_u64(key.get(5..)?)?;
    Some((at, read_account(rest)?.0))
}

fn read_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}
