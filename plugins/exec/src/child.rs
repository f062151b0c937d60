//! One child process: started, greeted, asked, and ended. It is never asked twice at the same time.
//!
//! A child that is dropped is killed, with its process group: whoever drops one in the middle of a question must not
//! leave its answer to the next. Its process id is not given back to the system (by waiting for it) before the group
//! was killed, so that the group cannot be another's by then.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use profilesync_target::Mask;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, unix::AsyncFd},
    process::{ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    settings::Program,
    text::{quote, rounded},
    wire::{Ask, Hello, Reply},
    words::Words,
};

/// Longest line of a child.
const MAX_LINE: usize = 4 << 20;

/// Most bytes of all answers to one request.
const MAX_ANSWERS: usize = 16 << 20;

/// How long a child has to end once its input is closed, and once it was told by SIGTERM.
const CLOSE: Duration = Duration::from_secs(2);
const TERM: Duration = Duration::from_secs(1);

/// How long the end of a child is waited for whose output has ended.
const LAST_GASP: Duration = Duration::from_millis(500);

/// A running child.
#[derive(Debug)]
pub(crate) struct Child {
    // Dropped before `process`, which gives the id back.
    group: Group,
    process: tokio::process::Child,
    exit: AsyncFd<OwnedFd>,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    words: Option<Words>,
    mask: Mask,
    hello: Option<Hello>,
    /// Whether it answered anything.
    pub(crate) served: bool,
}

/// A child's process group, killed when dropped.
#[derive(Debug)]
struct Group(Pid);

impl Group {
    fn signal(&self, signal: Signal) {
        // There may be nobody left.
        let _ = kill_process_group(self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// How a child ended that was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself, once its input was closed.
    Itself(ExitStatus),
    /// By SIGTERM.
    Terminated,
    /// By SIGKILL.
    Killed,
}

impl Child {
    /// Starts the program.
    pub(crate) fn start(program: &Program, target: &str, mask: &Mask) -> Result<Self, String> {
        let (name, arguments) = program.command.split_first().expect("checked in `open`");
        let failed = |error: std::io::Error| format!("{name:?} does not start: {error}");
        let path = match name.contains('/') {
            true => program.folder.join(name),
            false => name.into(),
        };
        let mut process = Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(&program.env)
            .current_dir(&program.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let id = process.id().and_then(|id| i32::try_from(id).ok());
        let group = id.and_then(Pid::from_raw).expect("it was not waited for");
        let group = Group(group);
        let exit = pidfd_open(group.0, PidfdFlags::empty());
        let exit = watch(exit.map_err(std::io::Error::from).map_err(failed)?).map_err(failed)?;
        let piped = "all three are piped";
        let stderr = process.stderr.take().expect(piped);
        Ok(Self {
            input: process.stdin.take().expect(piped),
            output: BufReader::new(process.stdout.take().expect(piped)),
            words: Some(Words::listen(stderr, target.to_owned(), mask.clone())),
            mask: mask.clone(),
            group,
            process,
            exit,
            hello: None,
            served: false,
        })
    }

    /// Says hello and hears its answer, within the limit.
    pub(crate) async fn greet(&mut self, greeting: &str, limit: Duration) -> Result<Hello, String> {
        // A child that is gone shows in what it says.
        let _ = self.input.write_all(greeting.as_bytes()).await;
        let line = timeout(limit, line(&mut self.output)).await;
        let line = line.map_err(|_| format!("it said no hello within {}", rounded(limit)))??;
        let hello = Hello::parse(&line, &self.mask)?;
        self.hello = Some(hello.clone());
        Ok(hello)
    }

    /// What it said about itself.
    pub(crate) fn hello(&self) -> &Hello {
        self.hello.as_ref().expect("greeted right after its start")
    }

    /// Asks, with ids from `first` on, and hands every answer to `take` with its place in the question. After an error the
    /// child is of no use any more.
    pub(crate) async fn ask(
        &mut self,
        ask: Ask<'_>,
        first: u64,
        mut take: impl FnMut(usize, Reply) -> Result<(), String> + Send,
    ) -> Result<(), String> {
        self.listen_early().await?;
        let count = ask.count();
        let request = ask.write(self.hello().format, first);
        let Self {
            input,
            output,
            mask,
            served,
            ..
        } = self;
        // At the same time, for the child may answer before it read everything.
        let write = async {
            if input.write_all(request.as_bytes()).await.is_err() {
                // It does not listen any more. What it says last, or its end, says why.
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        let read = async {
            let mut open: BTreeMap<u64, usize> = (first..).zip(0..count).collect();
            let mut room = MAX_ANSWERS;
            while !open.is_empty() {
                let line = line(output).await?;
                room = room.checked_sub(line.len()).ok_or_else(|| {
                    format!("its answers to one request are longer than {MAX_ANSWERS} bytes in all")
                })?;
                let reply: Reply = serde_json::from_str(&line).map_err(|error| {
                    format!(
                        "it wrote a line to standard output that is no answer ({error}): {}; \
                         messages go to standard error",
                        quote(mask, &line)
                    )
                })?;
                let id = reply.id;
                let place = open.remove(&id).ok_or_else(|| {
                    format!(
                        "it answered {id}, which is not asked for: {}",
                        quote(mask, &line)
                    )
                })?;
                take(place, reply).map_err(|error| format!("{error}: {}", quote(mask, &line)))?;
                *served = true;
            }
            Ok::<_, String>(())
        };
        tokio::try_join!(write, read).map(|_| ())
    }

    /// What is there before anything is asked answers nothing, whatever id it names.
    async fn listen_early(&mut self) -> Result<(), String> {
        match timeout(Duration::ZERO, self.output.fill_buf()).await {
            Ok(Ok(early)) if !early.is_empty() => {
                let early = line(&mut self.output).await?;
                Err(format!(
                    "it wrote a line to standard output before it was asked: {}; messages go to standard error",
                    quote(&self.mask, &early)
                ))
            }
            // Its end shows when it is asked.
            _ => Ok(()),
        }
    }

    /// Whether it ended by itself while nobody asked it.
    pub(crate) async fn has_ended(&self) -> bool {
        timeout(Duration::ZERO, self.exit.readable()).await.is_ok()
    }

    /// Stops it as Ctrl-Z would, for tests of plugins.
    pub(crate) fn suspend(&self) {
        self.group.signal(Signal::STOP);
    }

    /// Closes its input and waits for its end, with more and more force.
    pub(crate) async fn end(self) -> Ending {
        // The last of a pattern is dropped first.
        let Self {
            mut process,
            exit,
            input,
            mut output,
            words,
            group,
            ..
        } = self;
        drop(input);
        // What it still writes is of no interest, but must not stop it.
        let drain = async {
            let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
            std::future::pending::<()>().await;
        };
        let ended = async {
            if timeout(CLOSE, exit.readable()).await.is_ok() {
                return None;
            }
            group.signal(Signal::TERM);
            match timeout(TERM, exit.readable()).await {
                Ok(_) => Some(Ending::Terminated),
                Err(_) => Some(Ending::Killed),
            }
        };
        let forced = tokio::select! {
            forced = ended => forced,
            () = drain => unreachable!("it never ends"),
        };
        drop(group);
        let status = process.wait().await;
        if let Some(words) = words {
            words.last().await;
        }
        match (forced, status) {
            (None, Ok(status)) => Ending::Itself(status),
            (None, Err(_)) => Ending::Killed,
            (Some(ending), _) => ending,
        }
    }

    /// Kills a child that is of no use any more, and says how it ended and what it said last.
    pub(crate) async fn bury(self, broken: &str) -> String {
        let Self {
            mut process,
            exit,
            words,
            group,
            ..
        } = self;
        let mut text = broken.to_owned();
        if broken == GONE && timeout(LAST_GASP, exit.readable()).await.is_ok() {
            drop(group);
            if let Ok(status) = process.wait().await {
                text = format!("it ended with {status}");
            }
        } else {
            drop(group);
            // So that its id is given back; SIGKILL cannot be refused.
            let _ = timeout(LAST_GASP, process.wait()).await;
        }
        let last = match words {
            Some(words) => words.last().await,
            None => None,
        };
        match last {
            Some(last) => format!("{text}; it last said: {last}"),
            None => text,
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe code; an OwnedFd is one open descriptor for good"
)]
fn watch(exit: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(exit)
}

/// What a child is said to have done whose output ended.
const GONE: &str = "it closed its standard output";

/// The next line, without its end.
async fn line(output: &mut BufReader<ChildStdout>) -> Result<String, String> {
    let mut line = Vec::new();
    loop {
        let read = output.fill_buf().await;
        let chunk = read.map_err(|error| format!("it cannot be read: {error}"))?;
        if chunk.is_empty() {
            return Err(GONE.into());
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let taken = end.unwrap_or(chunk.len());
        line.extend_from_slice(&chunk[..taken]);
        output.consume(taken + usize::from(end.is_some()));
        if line.len() > MAX_LINE {
            return Err(format!("it wrote a line of more than {MAX_LINE} bytes"));
        }
        if end.is_some() {
            return String::from_utf8(line)
                .map_err(|_| "it wrote a line that is not UTF-8".to_owned());
        }
    }
}
