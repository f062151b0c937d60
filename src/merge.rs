//! How the events of an account become its profile. Pure: no clock, no I/O.
//!
//! The state is a join-semilattice: merging is commutative, associative and idempotent, so the profile depends
//! on which events are known and on nothing else (design §4).

use std::collections::BTreeMap;

use profilesync_target::{Document, Status};
use serde_json::Value;

use crate::{
    clock::Millis,
    event::{AccountId, Event, Field, Kind, Stamp},
};

/// Most extra members of an account; beyond them the newest stay. A sender that makes up names must not make
/// accounts grow for ever.
pub(crate) const MAX_EXTRA: usize = if cfg!(test) { 3 } else { 256 };

/// The newest value known of one field, and the event it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Register {
    /// The winning event.
    pub stamp: Stamp,
    /// Its value.
    pub value: Value,
}

/// The merged latest state of an account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Per field the newest value, if any event later than `destroyed_at` set one.
    pub fields: BTreeMap<Field, Register>,
    /// The greatest `EventTime` of an event that is not a destroy; 0 for none.
    pub alive_at: Millis,
    /// The greatest `EventTime` of a destroy; 0 for none. Fields up to it are void.
    pub destroyed_at: Millis,
}

impl Profile {
    /// Takes an event in. Says whether it changed anything at all, visible or not.
    pub fn merge(&mut self, event: &Event) -> bool {
        let Stamp { time, .. } = event.stamp;
        let mut changed = false;
        if event.kind == Kind::Destroyed {
            if time > self.destroyed_at {
                self.destroyed_at = time;
                self.fields.retain(|_, register| register.stamp.time > time);
                changed = true;
            }
        } else if time > self.alive_at {
            self.alive_at = time;
            changed = true;
        }
        if time <= self.destroyed_at {
            return changed;
        }
        for (field, value) in &event.fields {
            if self
                .fields
                .get(field)
                .is_none_or(|register| register.stamp < event.stamp)
                && self.make_room(field, event.stamp)
            {
                let register = Register {
                    stamp: event.stamp,
                    value: value.clone(),
                };
                self.fields.insert(field.clone(), register);
                changed = true;
            }
        }
        changed
    }

    /// Whether there is room for a field, after the oldest extra member made it where it had to. What went is older
    /// than all that stay, so it could not have come back, and a destroy that voids one of these voids it too: which
    /// members stay does not depend on the order of events.
    fn make_room(&mut self, field: &Field, stamp: Stamp) -> bool {
        if !matches!(field, Field::Extra(_)) || self.fields.contains_key(field) {
            return true;
        }
        let extras = self
            .fields
            .iter()
            .filter(|(field, _)| matches!(field, Field::Extra(_)))
            .map(|(field, register)| (register.stamp, field));
        if extras.clone().count() < MAX_EXTRA {
            return true;
        }
        match extras.min() {
            Some(oldest) if oldest < (stamp, field) => {
                let oldest = oldest.1.clone();
                self.fields.remove(&oldest);
                true
            }
            _ => false,
        }
    }

    /// Whether the account exists.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.destroyed_at >= self.alive_at {
            Status::Destroyed
        } else {
            Status::Active
        }
    }

    /// The newest `EventTime` known of the account.
    #[must_use]
    pub fn event_time(&self) -> Millis {
        self.alive_at.max(self.destroyed_at)
    }

    /// Whether a target could tell the two apart: status or any value differs. When the newest event happened
    /// is not visible: an event that changes nothing else makes no revision.
    #[must_use]
    pub fn looks_like(&self, other: &Self) -> bool {
        self.status() == other.status() && self.changed_fields(other).next().is_none()
    }

    /// The fields whose visible values differ.
    pub fn changed_fields<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Field> {
        let here = self.fields.iter().filter(|(field, register)| {
            other
                .fields
                .get(field)
                .is_none_or(|theirs| theirs.value != register.value)
        });
        let gone = other
            .fields
            .keys()
            .filter(|field| !self.fields.contains_key(field));
        here.map(|(field, _)| field).chain(gone)
    }

    /// The profile as targets get it.
    #[must_use]
    pub fn document(&self, id: &AccountId, revision: u64) -> Document {
        let text = |field: &Field| {
            self.fields
                .get(field)
                .and_then(|register| register.value.as_str())
                .map(str::to_owned)
        };
        let extra = self
            .fields
            .iter()
            .filter_map(|(field, register)| match field {
                Field::Extra(name) => Some((name.clone(), register.value.clone())),
                _ => None,
            });
        Document {
            sdk_app_id: id.app,
            account: id.account.clone(),
            revision,
            status: self.status(),
            name: text(&Field::Name),
            introduction: text(&Field::Introduction),
            face_url: text(&Field::FaceUrl),
            organization: text(&Field::Organization),
            owner: text(&Field::Owner),
            operator: text(&Field::Operator),
            event_time: self.event_time(),
            extra: extra.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn id() -> AccountId {
        AccountId {
            app: 1,
            account: "@TOA#_a".into(),
        }
    }

    fn event(kind: Kind, time: Millis, digest: u8, fields: &[(Field, &str)]) -> Event {
        let fields = fields
            .iter()
            .map(|(field, value)| (field.clone(), json!(value)))
            .collect();
        Event {
            id: id(),
            kind,
            stamp: Stamp {
                time,
                digest: [digest; 32],
            },
            fields,
        }
    }

    fn merged(events: &[Event]) -> Profile {
        let mut profile = Profile::default();
        for event in events {
            profile.merge(event);
        }
        profile
    }

    fn any_field() -> impl Strategy<Value = Field> {
        prop_oneof![
            Just(Field::Name),
            Just(Field::Introduction),
            Just(Field::Owner),
            Just(Field::Operator),
            // More than there is room for.
            "[A-E]".prop_map(Field::Extra),
        ]
    }

    /// Few times and few digests, so that ties and duplicates are common. What an event says follows from its
    /// digest, as it does in life.
    fn any_event() -> impl Strategy<Value = Event> {
        let kind = prop_oneof![
            Just(Kind::Created),
            Just(Kind::Changed),
            Just(Kind::Destroyed)
        ];
        let fields = prop::collection::btree_map(any_field(), 0..3_u8, 0..4);
        (kind, 1..6_u64, fields).prop_map(|(kind, time, values)| {
            let text = format!("{kind:?}{time}{values:?}");
            let fields: BTreeMap<_, _> = values
                .into_iter()
                .map(|(field, value)| (field, json!(value)))
                .collect();
            let digest = crc32c::crc32c(text.as_bytes()).to_be_bytes();
            let mut stamp = Stamp {
                time,
                digest: [0; 32],
            };
            stamp.digest[..4].copy_from_slice(&digest);
            Event {
                id: id(),
                kind,
                stamp,
                fields,
            }
        })
    }

    proptest! {
        #[test]
        fn the_order_of_events_does_not_matter(
            (events, shuffled) in prop::collection::vec(any_event(), 0..12)
                .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
            again in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let expected = merged(&events);
            let mut profile = merged(&shuffled);
            prop_assert_eq!(&profile, &expected);
            for index in again.iter().filter(|_| !events.is_empty()) {
                prop_assert!(!profile.merge(index.get(&events)), "a duplicate says it changed something");
            }
            prop_assert_eq!(profile, expected);
        }

        /// The same result by design §4's words, not by registers.
        #[test]
        fn the_newest_event_of_each_field_wins(events in prop::collection::vec(any_event(), 1..12)) {
            let profile = merged(&events);
            let greatest = |destroy: bool| {
                let of_kind = events.iter().filter(|event| (event.kind == Kind::Destroyed) == destroy);
                of_kind.map(|event| event.stamp.time).max()
            };
            let (alive, destroyed) = (greatest(false), greatest(true));
            let active = alive > destroyed;
            prop_assert_eq!(profile.status() == Status::Active, active);
            for field in [Field::Name, Field::Introduction, Field::Owner, Field::Operator] {
                let setters = events.iter().filter(|event| {
                    event.kind != Kind::Destroyed
                        && Some(event.stamp.time) > destroyed
                        && event.fields.contains_key(&field)
                });
                let expected = setters.max_by_key(|event| event.stamp).map(|event| &event.fields[&field]);
                prop_assert_eq!(profile.fields.get(&field).map(|register| &register.value), expected);
            }
        }
    }

    #[test]
    fn all_fields_of_one_event_win_a_tie_together() {
        let low = event(
            Kind::Changed,
            5,
            1,
            &[(Field::Name, "low"), (Field::Owner, "low")],
        );
        let high = event(
            Kind::Changed,
            5,
            2,
            &[(Field::Name, "high"), (Field::Owner, "high")],
        );
        for events in [[low.clone(), high.clone()], [high, low]] {
            let document = merged(&events).document(&id(), 1);
            assert_eq!(document.name.as_deref(), Some("high"));
            assert_eq!(document.owner.as_deref(), Some("high"));
        }
    }

    #[test]
    fn an_empty_string_clears_and_an_absent_member_says_nothing() {
        let set = event(
            Kind::Changed,
            1,
            1,
            &[(Field::Name, "n"), (Field::Introduction, "i")],
        );
        let cleared = event(Kind::Changed, 2, 1, &[(Field::Name, "")]);
        let document = merged(&[set, cleared]).document(&id(), 2);
        assert_eq!(document.name.as_deref(), Some(""));
        assert_eq!(document.introduction.as_deref(), Some("i"));
    }

    #[test]
    fn a_destroyed_account_is_empty_until_a_later_event_revives_it() {
        let set = event(Kind::Changed, 1, 1, &[(Field::Name, "n")]);
        let destroyed = event(Kind::Destroyed, 2, 1, &[(Field::Name, "n")]);
        let same_time = event(Kind::Changed, 2, 9, &[(Field::Name, "same time")]);
        let later = event(Kind::Created, 3, 1, &[(Field::Owner, "o")]);
        let dead = merged(&[set.clone(), destroyed.clone(), same_time.clone()]);
        assert_eq!(dead.status(), Status::Destroyed);
        assert_eq!(dead.document(&id(), 2).name, None);
        let alive = merged(&[later, set, destroyed, same_time]).document(&id(), 3);
        assert_eq!(
            (alive.status, alive.name, alive.owner.as_deref()),
            (Status::Active, None, Some("o"))
        );
    }

    #[test]
    fn the_newest_extra_members_stay() {
        let extra = |name: &str| Field::Extra(name.into());
        let old = event(Kind::Changed, 1, 1, &[(extra("A"), "1"), (extra("Z"), "1")]);
        let new = event(Kind::Changed, 2, 1, &[(extra("B"), "2"), (extra("C"), "2")]);
        let late = event(Kind::Changed, 1, 0, &[(extra("Y"), "0")]);
        let profile = merged(&[old, new.clone(), late]);
        let names: Vec<_> = profile.fields.keys().collect();
        assert_eq!(names, [&extra("B"), &extra("C"), &extra("Z")]);
        let replaced = event(Kind::Changed, 3, 1, &[(extra("B"), "3")]);
        assert_eq!(merged(&[new, replaced]).fields.len(), 2);
    }

    #[test]
    fn an_event_without_news_is_not_visible() {
        let first = event(Kind::Changed, 1, 1, &[(Field::Name, "n")]);
        let repeated = event(Kind::Changed, 2, 1, &[(Field::Name, "n")]);
        let before = merged(std::slice::from_ref(&first));
        let after = merged(&[first, repeated]);
        assert!(after.looks_like(&before));
        assert_ne!(after, before);
    }
}
