//! The writer's thread: takes whatever entries are waiting, writes them at once, syncs once, answers them all.
//! Nobody waits for a group to fill.
//!
//! Numbers are given out in the order of writing and never again, whatever becomes of the write. Within a segment they
//! are consecutive: a failed write or sync ends the segment, and its entries get new numbers in the next one. The header
//! of a segment says what was acknowledged before it, so that readers step over what was written in vain.

use std::{mem, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{
    AppendError, Entry, Options, STOPPED,
    faults::Faults,
    file::SegmentFile,
    recover::{Recovered, recover},
    segment::{self, Header},
};
use crate::durable::free_bytes;

/// Most entries of one write.
const GROUP_ENTRIES: usize = 1024;
/// A write is not made larger than this, bytes; one entry may be.
const GROUP_BYTES: usize = 4 << 20;
/// How long the writer waits before it tries a failed disk again, and before it looks whether an idle one is full: what
/// asks whether events are taken must not learn it from an event that is not.
const RETRY_AFTER: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });

/// An entry on its way.
pub(super) struct Waiting {
    /// The entry.
    pub(super) entry: Entry,
    /// Where its number goes.
    pub(super) answer: oneshot::Sender<Result<u64, AppendError>>,
}

/// The ends of what the writer shares with the [`super::Journal`].
pub(super) struct Channels {
    /// Entries to write.
    pub(super) waiting: mpsc::Receiver<Waiting>,
    /// The last acknowledged number.
    pub(super) synced: watch::Sender<u64>,
    /// Whether entries are taken.
    pub(super) health: watch::Sender<Result<(), String>>,
    /// Asks the writer to finish.
    pub(super) stop: CancellationToken,
    /// Says that it has.
    pub(super) stopped: CancellationToken,
}

/// The state of the thread.
pub(super) struct Writer {
    options: Options,
    channels: Channels,
    faults: Faults,
    /// The next number; `None` until the folder could be read.
    next: Option<u64>,
    /// The segment being written; `None` after a failure.
    segment: Option<SegmentFile>,
    /// When a segment is made again after a failure.
    retry_at: Instant,
    /// What is being written.
    buffer: Vec<u8>,
}

/// Why a group was not committed.
struct Failure {
    reason: String,
    /// Whether another segment may take it.
    try_another: bool,
}

impl Writer {
    pub(super) fn new(options: Options, channels: Channels, faults: Faults) -> Self {
        Self {
            options,
            channels,
            faults,
            next: None,
            segment: None,
            retry_at: Instant::now(),
            buffer: Vec::new(),
        }
    }

    /// Finds the place to go on and begins a segment; what was wrong, in words. What fails is tried again while the
    /// thread runs.
    pub(super) fn start(&mut self) -> Vec<String> {
        let damage = match self.recover() {
            Ok(recovered) => recovered.damage,
            Err(reason) => vec![reason],
        };
        self.check();
        damage
    }

    /// The number before the next; 0 while the folder cannot be read.
    pub(super) fn base(&self) -> u64 {
        self.next.map_or(0, |next| next - 1)
    }

    /// Works until it is asked to stop or nobody can append any more; then everything is answered.
    pub(super) async fn run(mut self) {
        let mut waiting = Vec::new();
        while self.receive(&mut waiting).await {
            while !waiting.is_empty() {
                let rest = waiting.split_off(group_size(&waiting));
                self.commit(waiting);
                waiting = rest;
            }
        }
    }

    /// Waits for entries, or for something else to do; whether there may be more.
    async fn receive(&mut self, waiting: &mut Vec<Waiting>) -> bool {
        let entries = &mut self.channels.waiting;
        tokio::select! {
            biased;
            () = self.channels.stop.cancelled(), if !entries.is_closed() => entries.close(),
            count = entries.recv_many(waiting, GROUP_ENTRIES) => return count > 0,
            () = sleep(RETRY_AFTER) => self.check(),
        }
        true
    }

    fn commit(&mut self, group: Vec<Waiting>) {
        let mut result = self.append(&group);
        if let Err(Failure {
            try_another: true, ..
        }) = result
        {
            result = self.append(&group);
        }
        match result {
            Ok(first) => {
                let numbered = (first..).zip(group);
                self.succeed();
                for (seq, waiting) in numbered {
                    // the caller may be gone: its entry is written all the same
                    let _ = waiting.answer.send(Ok(seq));
                }
            }
            Err(failure) => {
                if failure.try_another {
                    self.retry_at = Instant::now() + RETRY_AFTER;
                }
                self.fail(failure.reason.clone());
                for waiting in group {
                    let refused = AppendError(failure.reason.clone());
                    let _ = waiting.answer.send(Err(refused));
                }
            }
        }
    }

    /// Writes and syncs a group, and publishes it; the number of its first entry.
    fn append(&mut self, group: &[Waiting]) -> Result<u64, Failure> {
        let (mut segment, first) = self.ready().map_err(|reason| Failure {
            reason,
            try_another: false,
        })?;
        self.buffer.clear();
        let mut next = first;
        for waiting in group {
            segment::encode(&mut self.buffer, next, &waiting.entry);
            next += 1;
        }
        self.next = Some(next);
        let started = Instant::now();
        let appended = segment.append(&mut self.buffer);
        let metrics = &self.options.metrics;
        metrics
            .commit_seconds
            .observe(started.elapsed().as_secs_f64());
        if let Err(error) = appended {
            let reason = format!("cannot write {}: {error}", segment.path().display());
            if segment.first() > *self.channels.synced.borrow() {
                segment.remove();
            }
            return Err(Failure {
                reason,
                try_another: true,
            });
        }
        metrics.commit_batch_size.observe(group.len() as f64);
        self.segment = Some(segment);
        self.channels.synced.send_replace(next - 1);
        Ok(first)
    }

    /// Sees whether entries could be taken, when there are none.
    fn check(&mut self) {
        match self.ready() {
            Ok((segment, _)) => {
                self.segment = Some(segment);
                self.succeed();
            }
            Err(reason) => self.fail(reason),
        }
    }

    /// The segment to write to, taken out of `self`, and the number to go on with.
    fn ready(&mut self) -> Result<(SegmentFile, u64), String> {
        let next = match self.next {
            Some(next) => next,
            None => self.recover()?.next,
        };
        self.check_space()?;
        match self.segment.take() {
            // An empty one would be replaced by one of the same name, and who reads it would go on reading what is gone.
            Some(segment) if segment.is_empty() || segment.bytes() < self.options.segment_bytes => {
                Ok((segment, next))
            }
            _full_or_none => self.begin(next),
        }
    }

    fn recover(&mut self) -> Result<Recovered, String> {
        let dir = &self.options.dir;
        let recovered = recover(dir, self.options.floor)
            .map_err(|error| format!("cannot read the journal in {}: {error}", dir.display()))?;
        let recovered = Recovered {
            next: recovered.next.saturating_add(self.options.gap),
            ..recovered
        };
        self.next = Some(recovered.next);
        self.channels.synced.send_replace(recovered.last);
        Ok(recovered)
    }

    fn check_space(&mut self) -> Result<(), String> {
        let Options {
            dir, reserve_bytes, ..
        } = &self.options;
        match free_bytes(dir) {
            Err(error) => {
                // the folder may have been removed, and the segment with it; its name is not given to another
                self.segment = None;
                self.next = self.next.map(|next| next + 1);
                Err(format!(
                    "cannot see the free space of {}: {error}",
                    dir.display()
                ))
            }
            Ok(free) if free < *reserve_bytes => Err(format!(
                "less than the reserve of {reserve_bytes} bytes is free in {}: make room there",
                dir.display()
            )),
            Ok(_) => Ok(()),
        }
    }

    /// Begins a segment. After a failure that is tried about once a second, and under another number each time: a
    /// reader may have seen the segment in the moment it was there.
    fn begin(&mut self, next: u64) -> Result<(SegmentFile, u64), String> {
        if Instant::now() < self.retry_at
            && let Err(reason) = &*self.channels.health.borrow()
        {
            return Err(reason.clone());
        }
        let header = Header {
            first: next,
            after: *self.channels.synced.borrow(),
        };
        let Options {
            dir, segment_bytes, ..
        } = &self.options;
        match SegmentFile::create(dir, header, *segment_bytes, &self.faults) {
            Ok(segment) => Ok((segment, next)),
            Err(error) => {
                self.next = Some(next + 1);
                self.retry_at = Instant::now() + RETRY_AFTER;
                Err(format!(
                    "cannot begin a segment in {}: {error}",
                    dir.display()
                ))
            }
        }
    }

    fn succeed(&self) {
        if self.set_health(Ok(())).is_err() {
            info!("the journal takes entries again");
        }
    }

    fn fail(&self, reason: String) {
        if self.set_health(Err(reason.clone())).is_ok() {
            error!(
                reason,
                "the journal takes no entries; it tries again by itself"
            );
        }
    }

    /// Says how it is; how it was.
    fn set_health(&self, health: Result<(), String>) -> Result<(), String> {
        let mut before = health.clone();
        self.channels.health.send_if_modified(|shown| {
            let is_new = *shown != health;
            before = mem::replace(shown, health);
            is_new
        });
        before
    }
}

impl Drop for Writer {
    /// However the thread ends, nobody goes on waiting for it or believes it to be well.
    fn drop(&mut self) {
        if let Some(segment) = self.segment.take() {
            segment.close();
        }
        let _ = self.set_health(Err(STOPPED.into()));
        self.channels.stopped.cancel();
    }
}

/// How many of the entries are written at once; at least one.
fn group_size(waiting: &[Waiting]) -> usize {
    let mut bytes = 0;
    let fitting = waiting.iter().take_while(|waiting| {
        bytes += waiting.entry.body.len();
        bytes <= GROUP_BYTES
    });
    fitting.count().max(1)
}
