//! The merge behind a snapshot: sorted old rows with sorted changes, one row in memory at a time.

use std::{collections::BTreeMap, io};

/// What a snapshot is sorted by: app, then account by its bytes.
pub(crate) type Key = (u64, String);

/// One account's row, as the old snapshot has it.
pub(crate) struct Row<C> {
    pub(crate) key: Key,
    pub(crate) revision: u64,
    pub(crate) content: C,
}

/// What a batch says of one account.
pub(crate) struct Change<C> {
    pub(crate) revision: u64,
    /// `None` removes the row.
    pub(crate) content: Option<C>,
}

/// Why the old snapshot cannot be merged with.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The disk does not give it.
    Io(io::Error),
    /// It is not what was written. The text says where and how.
    Damaged(String),
}

/// How a new snapshot differs from the old one.
#[derive(Debug)]
pub(crate) struct Merged {
    /// Whether it does.
    pub(crate) changed: bool,
    /// The rows that were kept, for their revision is higher than the change's.
    pub(crate) higher: BTreeMap<Key, u64>,
}

/// Hands the rows of the new snapshot to `keep`, in order. A row with a higher revision than the change stays.
pub(crate) fn merge<C: PartialEq, E: From<Unreadable>>(
    old: impl Iterator<Item = Result<Row<C>, Unreadable>>,
    changes: BTreeMap<Key, Change<C>>,
    mut keep: impl FnMut(&C) -> Result<(), E>,
) -> Result<Merged, E> {
    let mut changes = changes.into_iter().peekable();
    let mut changed = false;
    let mut higher = BTreeMap::new();
    let mut last: Option<Key> = None;
    for row in old {
        let row = row?;
        if last.as_ref().is_some_and(|last| *last >= row.key) {
            let (app, account) = row.key;
            let text = format!("the row of app {app}, account {account:?} is out of order");
            return Err(Unreadable::Damaged(text).into());
        }
        while let Some((_, change)) = changes.next_if(|(key, _)| *key < row.key) {
            if let Some(content) = change.content {
                keep(&content)?;
                changed = true;
            }
        }
        match changes.next_if(|(key, _)| *key == row.key) {
            Some((_, change)) if change.revision >= row.revision => {
                changed |= change.content.as_ref() != Some(&row.content);
                if let Some(content) = change.content {
                    keep(&content)?;
                }
            }
            Some((key, _)) => {
                higher.insert(key, row.revision);
                keep(&row.content)?;
            }
            None => keep(&row.content)?,
        }
        last = Some(row.key);
    }
    for (_, change) in changes {
        if let Some(content) = change.content {
            keep(&content)?;
            changed = true;
        }
    }
    Ok(Merged { changed, higher })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::btree_map, option, prelude::proptest};

    use super::{Change, Key, Merged, Row, Unreadable, merge};

    type Rows = BTreeMap<Key, (u64, u8)>;

    fn merged(
        old: &Rows,
        changes: &BTreeMap<Key, (u64, Option<u8>)>,
    ) -> (Vec<(Key, u64, u8)>, Merged) {
        let mut kept = Vec::new();
        let old = old.iter().map(|(key, &(revision, content))| {
            Ok(Row {
                key: key.clone(),
                revision,
                content: (key.clone(), revision, content),
            })
        });
        let changes = changes.iter().map(|(key, &(revision, content))| {
            let content = content.map(|content| (key.clone(), revision, content));
            (key.clone(), Change { revision, content })
        });
        let merged = merge::<_, Unreadable>(old, changes.collect(), |row| {
            kept.push(row.clone());
            Ok(())
        });
        (kept, merged.unwrap())
    }

    proptest! {
        #[test]
        fn a_merge_is_a_map_with_newer_rows(
            old in btree_map((0..3_u64, "[ab]{0,2}"), (0..4_u64, 0..3_u8), 0..20),
            changes in btree_map((0..3_u64, "[ab]{0,2}"), (0..4_u64, option::of(0..3_u8)), 0..20),
        ) {
            let mut expected = old.clone();
            let mut higher = BTreeMap::new();
            for (key, &(revision, content)) in &changes {
                if let Some(held) = expected.get(key).filter(|held| held.0 > revision) {
                    higher.insert(key.clone(), held.0);
                    continue;
                }
                match content {
                    Some(content) => expected.insert(key.clone(), (revision, content)),
                    None => expected.remove(key),
                };
            }
            let (kept, merged) = merged(&old, &changes);
            assert_eq!(merged.changed, expected != old);
            assert_eq!(merged.higher, higher);
            let expected: Vec<_> = expected.into_iter().map(|(key, (revision, content))| (key, revision, content)).collect();
            assert_eq!(kept, expected);
        }
    }

    #[test]
    fn unsorted_rows_are_damage() {
        for accounts in [["b", "a"], ["a", "a"]] {
            let old = accounts.map(|account| {
                Ok(Row {
                    key: (1, account.to_owned()),
                    revision: 1,
                    content: (),
                })
            });
            let result = merge::<_, Unreadable>(old.into_iter(), BTreeMap::new(), |()| Ok(()));
            assert!(matches!(result, Err(Unreadable::Damaged(_))));
        }
    }
}
