//! What the daemon and systemd tell each other: readiness, reloads, the watchdog, and sockets handed over.
//!
//! Nothing here knows what the daemon does. Without systemd every call is a no-op: the variables it goes by are
//! not set then.

use std::{
    env, fmt, fs, io,
    net::TcpListener,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::FileTypeExt as _, net::UnixListener},
    },
    pin::Pin,
    process,
    time::Duration,
};

use futures_util::future::join_all;
use rustix::{
    io::{FdFlags, fcntl_setfd, ioctl_fionbio},
    net::{AddressFamily, getsockname, sockopt::socket_acceptconn},
};
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};

/// A listening socket that systemd opened, non-blocking as tokio wants it.
#[derive(Debug)]
pub enum Handed {
    /// IPv4 or IPv6.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

/// The sockets systemd handed over, by what they are for.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For webhooks: `FileDescriptorName=webhook`, and every socket that has no name of its own.
    pub webhook: Vec<Handed>,
    /// For the admin API: `FileDescriptorName=admin`.
    pub admin: Vec<Handed>,
}

/// Why sockets that systemd handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The variables do not make sense.
    #[error(
        "LISTEN_PID, LISTEN_FDS or LISTEN_FDNAMES are malformed; unset them or start the daemon by systemd"
    )]
    Environment(#[source] sd_listen_fds::Error),
    /// There are fewer than is said.
    #[error(
        "LISTEN_FDS says {count} sockets, but number {number} is none; start the daemon by systemd, or unset LISTEN_FDS and LISTEN_PID"
    )]
    Missing {
        /// How many there should be.
        count: u32,
        /// The file descriptor that is no socket.
        number: u32,
    },
    /// It is none to listen on.
    #[error("the socket {name:?} that systemd handed over cannot be listened on")]
    Socket {
        /// Its `FileDescriptorName`.
        name: String,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl From<SocketsError> for Failure {
    fn from(error: SocketsError) -> Self {
        Self::new(Exit::Failed, "the sockets from systemd cannot be used").because(error)
    }
}

/// The first file descriptor that systemd hands over.
const FIRST: u32 = 3;

/// Takes the sockets systemd handed over. To be called once, and before the process opens anything: they are told by
/// their numbers, and belong to the caller from then on.
///
/// # Errors
/// When the environment is malformed, or a socket is none that can be listened on.
pub fn sockets() -> Result<Sockets, SocketsError> {
    check_all_there()?;
    let mut sockets = Sockets::default();
    for (name, fd) in sd_listen_fds::get().map_err(SocketsError::Environment)? {
        let name = name.unwrap_or_default();
        let socket = match listener(fd.into_std()) {
            Ok(socket) => socket,
            Err(error) => return Err(SocketsError::Socket { name, error }),
        };
        match name.as_str() {
            "admin" => sockets.admin.push(socket),
            _ => sockets.webhook.push(socket),
        }
    }
    Ok(sockets)
}

/// Taking what is not there would be to close it later, when it is somebody else's. What makes no sense at all,
/// `sd_listen_fds` refuses.
fn check_all_there() -> Result<(), SocketsError> {
    let number = |name| {
        env::var(name)
            .ok()
            .and_then(|value| value.parse::<u32>().ok())
    };
    let Some(count) = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(process::id()))
    else {
        return Ok(());
    };
    for number in FIRST..FIRST.saturating_add(count) {
        let found = fs::metadata(format!("/proc/self/fd/{number}"));
        if !found.is_ok_and(|found| found.file_type().is_socket()) {
            return Err(SocketsError::Missing { count, number });
        }
    }
    Ok(())
}

fn listener(socket: OwnedFd) -> io::Result<Handed> {
    // Children that targets start must not keep the port open.
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    if !socket_acceptconn(socket.as_fd())? {
        let text = "not a listening stream socket (ListenStream= with Accept=no is needed)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    match getsockname(&socket)?.address_family() {
        AddressFamily::INET | AddressFamily::INET6 => Ok(Handed::Tcp(socket.into())),
        AddressFamily::UNIX => Ok(Handed::Unix(socket.into())),
        other => {
            let text = format!("neither TCP nor Unix but address family {}", other.as_raw());
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// Tells systemd that start or reload is over, and how it went.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells systemd that a reload begins. [`ready`] must follow, after a failed reload too.
///
/// Both lines go in one datagram: from systemd 253 on a `RELOADING=1` without its time fails the reload.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => {
            tracing::warn!(%error, "cannot read the monotonic clock to tell systemd of a reload")
        }
    }
}

/// Tells systemd that the daemon stops, and what it waits for.
pub fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot reach systemd's notification socket");
    }
}

/// How long systemd waits for a sign of life before it kills the daemon; `None` when it does not watch.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

type Answer = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A part of the daemon that the watchdog asks whether it still moves.
pub struct Probe {
    name: &'static str,
    ask: Box<dyn Fn() -> Answer + Send + Sync>,
}

impl Probe {
    /// A probe that answers `true` while the part called `name` makes progress, or has nothing to do.
    pub fn new<F, A>(name: &'static str, ask: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        let ask = Box::new(move || Box::pin(ask()) as Answer);
        Self { name, ask }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probe").field(&self.name).finish()
    }
}

/// Keeps systemd's watchdog quiet for as long as every probe answers `true`, until `stop`.
///
/// It asks at half of `interval`, so that one late answer kills nothing and two in a row do.
pub async fn watchdog(interval: Duration, probes: Vec<Probe>, stop: CancellationToken) {
    let ping = || notify(&[NotifyState::Watchdog]);
    stop.run_until_cancelled_owned(ping_while_alive(interval, &probes, ping))
        .await;
}

async fn ping_while_alive(interval: Duration, probes: &[Probe], ping: impl Fn()) {
    let mut rounds = tokio::time::interval(interval / 2);
    loop {
        rounds.tick().await;
        let silent = silent(probes, interval / 4).await;
        if silent.is_empty() {
            ping();
        } else {
            tracing::error!(?silent, "no sign of life: systemd will restart the daemon");
        }
    }
}

/// The names of the probes that do not answer `true` within `limit`.
async fn silent(probes: &[Probe], limit: Duration) -> Vec<&'static str> {
    let answers = join_all(probes.iter().map(|probe| async move {
        let alive = tokio::time::timeout(limit, (probe.ask)()).await;
        (!alive.unwrap_or(false)).then_some(probe.name)
    }));
    answers.await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use super::{Handed, Probe, listener, ping_while_alive};

    /// Runs the watchdog with an interval of 10 s for 60 s and counts its pings.
    async fn pings(probes: Vec<Probe>) -> u32 {
        let count = AtomicU32::new(0);
        let ping = || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let run = ping_while_alive(Duration::from_secs(10), &probes, ping);
        let limit = Duration::from_secs(60) - Duration::from_millis(1);
        tokio::time::timeout(limit, run).await.unwrap_err();
        count.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn pings_at_half_the_interval_while_all_probes_answer() {
        let probes = vec![
            Probe::new("a", || async { true }),
            Probe::new("b", || async { true }),
        ];
        assert_eq!(pings(probes).await, 12);
    }

    #[tokio::test(start_paused = true)]
    async fn one_dead_or_hanging_probe_stops_the_pings() {
        for dead in [
            Probe::new("no", || async { false }),
            Probe::new("hangs", pending),
        ] {
            assert_eq!(
                pings(vec![Probe::new("a", || async { true }), dead]).await,
                0
            );
        }
    }

    #[test]
    fn sockets_are_told_apart() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(listener(tcp.into()), Ok(Handed::Tcp(_))));
        let dir = tempfile::tempdir().unwrap();
        let unix = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(matches!(listener(unix.into()), Ok(Handed::Unix(_))));
        let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(listener(datagram.into()).is_err());
    }
}
