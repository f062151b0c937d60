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
