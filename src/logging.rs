//! The log, on standard error: for a person, for the journal, or as JSON.

use std::{
    fmt,
    io::{IsTerminal as _, stderr},
};

use clap::ValueEnum;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Writer},
    },
    registry::LookupSpan,
};

use crate::exit::{Exit, Failure};

/// How the log looks. Comments of the variants are no documentation: the help would show them at length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "see above")]
pub enum LogFormat {
    // `Journal` when systemd's journal reads it, else `Text`.
    #[default]
    Auto,
    // Lines for people, with the time; coloured on a terminal.
    Text,
    // Lines for journald, without the time, as the journal has its own.
    Journal,
    // One JSON object per line.
    Json,
}

/// Libraries that log every fault that an output reports anyway, and unmasked; lapin even whole messages.
/// Directives for them take the place of these.
const QUIET: &str = "async_nats=off,lapin=off,rumqttc=off,rustls_platform_verifier=off";

/// Starts logging. `filter` is a level, or directives.
///
/// # Errors
/// When the filter makes no sense.
pub fn init(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|error| {
        Failure::new(Exit::Usage, format!("{filter:?} is no log filter"))
            .because(error)
            .help("say a level: error, warn, info, debug or trace; or directives as profilesync::store=debug,info")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr);
    match format {
        // Events have a field `target` of their own; a second one would make the object ambiguous.
        LogFormat::Json => log.json().flatten_event(true).with_target(false).init(),
        LogFormat::Journal => log.event_format(JournalLines).init(),
        LogFormat::Auto if journal_reads_stderr() => log.event_format(JournalLines).init(),
        LogFormat::Auto | LogFormat::Text => {
            let colours = stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            log.with_ansi(colours).with_target(false).init();
        }
    }
    Ok(())
}

/// Whether standard error goes to journald: systemd names the device and inode it connected.
fn journal_reads_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// `<N>message field=value`: the priority of `sd-daemon(3)`, on each line of the event.
struct JournalLines;

impl<S> FormatEvent<S, DefaultFields> for JournalLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context
            .field_format()
            .format_fields(Writer::new(&mut text), event)?;
        let priority = priority(*event.metadata().level());
        for line in text.lines() {
            writeln!(writer, "<{priority}>{line}")?;
        }
        Ok(())
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn journal_lines_have_their_priority() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(move || writer.clone())
            .event_format(JournalLines)
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::error!(target = "crm", "delivery failed");
            tracing::warn!("two\nlines");
            tracing::info!(seq = 7, "recorded");
            tracing::debug!("detail");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "<3>delivery failed target=\"crm\"\n<4>two\n<4>lines\n<6>recorded seq=7\n<7>detail\n"
        );
    }
}
