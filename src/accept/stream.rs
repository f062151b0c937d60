//! A connection's bytes under the time limits. hyper reads and writes through here and sees the end of the input
//! when a limit has passed.
//!
//! hyper's `header_read_timeout` is not used: it counts from the answer before, so it would be the idle timeout
//! and the limit for a request's head in one.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::Limits;

/// What a connection is at. Shared by its [`Timed`] stream and its handler.
#[derive(Clone)]
pub(super) struct Turn {
    phase: Arc<Mutex<Phase>>,
    /// Until when a connection that is over reads on; see [`Turn::linger`].
    linger: Arc<Mutex<Option<Instant>>>,
    limits: Limits,
}

#[derive(Clone, Copy)]
enum Phase {
    /// No byte of the next request has come.
    Waiting { until: Instant },
    /// The head of a request is coming.
    Arriving { since: Instant },
    /// A request's head is here; the handler watches the time.
    Answering,
    /// No request is taken any more.
    Over,
}

impl Turn {
    pub(super) fn new(limits: Limits) -> Self {
        let until = Instant::now() + limits.request_timeout;
        Self {
            phase: Arc::new(Mutex::new(Phase::Waiting { until })),
            linger: Arc::default(),
            limits,
        }
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// The head has been read. Returns when all of the request must be here.
    pub(super) fn answering(&self) -> Instant {
        let since = match self.phase() {
            Phase::Arriving { since } => since,
            // It came in one piece with the request before.
            _ => Instant::now(),
        };
        self.set(Phase::Answering);
        since + self.limits.request_timeout
    }

    /// The answer has been made.
    pub(super) fn answered(&self) {
        let until = Instant::now() + self.limits.idle_timeout;
        self.set(Phase::Waiting { until });
    }

    /// Part of a request may not be read before its answer. So that the client gets to see that one, the rest is read
    /// and thrown away until then: closing a socket with unread input resets the connection, answer and all.
    pub(super) fn linger(&self, until: Instant) {
        *self.linger.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Ends the input, unless a request has begun.
    pub(super) fn end_if_waiting(&self) {
        if let Phase::Waiting { .. } = self.phase() {
            self.set(Phase::Over);
        }
    }

    fn lingers_until(&self) -> Option<Instant> {
        *self.linger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_something(&self) {
        if let Phase::Waiting { .. } = self.phase() {
            let since = Instant::now();
            self.set(Phase::Arriving { since });
        }
    }

    fn read_deadline(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Waiting { until } => Some(until),
            Phase::Arriving { since } => Some(since + self.limits.request_timeout),
            Phase::Answering | Phase::Over => None,
        }
    }
}

/// A stream whose reads end, and whose writes fail, when their time is over.
pub(super) struct Timed<S> {
    stream: S,
    turn: Turn,
    read_alarm: Alarm,
    write_alarm: Alarm,
    /// When the oldest write that waits for the client must have got further.
    write_deadline: Option<Instant>,
    /// Nothing more is written.
    is_shut: bool,
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S, turn: Turn) -> Self {
        Self {
            stream,
            turn,
            read_alarm: Alarm::default(),
            write_alarm: Alarm::default(),
            write_deadline: None,
            is_shut: false,
        }
    }

    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.write_deadline = None;
            return progress;
        }
        let timeout = self.turn.limits.request_timeout;
        let deadline = *self
            .write_deadline
            .get_or_insert_with(|| Instant::now() + timeout);
        ready!(self.write_alarm.poll(cx, deadline));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Phase::Over = this.turn.phase() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            if buf.filled().len() > before {
                this.turn.read_something();
            }
            return Poll::Ready(read);
        }
        let Some(deadline) = this.turn.read_deadline() else {
            return Poll::Pending;
        };
        ready!(this.read_alarm.poll(cx, deadline));
        this.turn.set(Phase::Over);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch_write(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch_write(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch_write(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_shut {
            let progress = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.watch_write(cx, progress))?;
            this.is_shut = true;
        }
        match this.turn.lingers_until() {
            Some(until) => this.poll_drain(cx, until).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + Unpin> Timed<S> {
    /// Throws away what comes until the end of the input, or until the time is over.
    fn poll_drain(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let mut scratch = [0; 8192];
        while Instant::now() < until {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(self.read_alarm.poll(cx, until));
                    break;
                }
            }
        }
        Poll::Ready(())
    }
}

/// A timer that costs nothing until something has to be waited for.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }
}
