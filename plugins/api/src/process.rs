//! Programs of servers that tests start for themselves.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Between two looks at a program that starts or ends.
const MOMENT: Duration = Duration::from_millis(20);

/// Looks after which it is given up. The slowest servers take half a minute on a loaded machine.
const MOST_LOOKS: u32 = 4500;

/// A program that a test starts, stops and starts again. Killed when dropped.
pub struct Process {
    child: Option<Child>,
    output: PathBuf,
    looks: u32,
}

impl Process {
    /// None yet; what it prints goes to this file.
    #[must_use]
    pub fn new(output: PathBuf) -> Self {
        Self {
            child: None,
            output,
            looks: 0,
        }
    }

    /// Starts the program.
    ///
    /// # Panics
    /// When it runs already, or cannot be started.
    pub fn start(&mut self, command: &mut Command) {
        assert!(self.child.is_none(), "{command:?} runs already");
        let output = File::create(&self.output).expect("a test's folder can be written to");
        let errors = output.try_clone().expect("a file can have two handles");
        let command = command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{command:?}: {error}")));
        self.looks = 0;
    }

    /// Waits a moment for it to be ready.
    ///
    /// # Panics
    /// When it ended, or takes too long.
    pub async fn starting(&mut self) {
        self.looks += 1;
        let child = self.child.as_mut().expect("it was started");
        let ended = child.try_wait().expect("a child can be asked");
        if ended.is_some() || MOST_LOOKS < self.looks {
            let output = fs::read_to_string(&self.output).unwrap_or_default();
            panic!("it does not start ({ended:?}): {output}");
        }
        tokio::time::sleep(MOMENT).await;
    }

    /// Whether it was started, and not ended here.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Sends it a signal: with `STOP` it hangs, with `CONT` it goes on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it was started").id();
        let mut kill = Command::new("kill");
        let status = kill.arg(format!("-{name}")).arg(id.to_string()).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "kill -{name} {id}"
        );
        if name == "STOP" {
            wait_until_stopped(id);
        }
    }

    /// Ends it as an operator does, and waits until it ended.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn end(&mut self) {
        if self.child.is_some() {
            self.signal("TERM");
        }
        for _ in 0..MOST_LOOKS {
            let Some(child) = &mut self.child else {
                return;
            };
            if child.try_wait().expect("a child can be asked").is_some() {
                self.child = None;
                return;
            }
            tokio::time::sleep(MOMENT).await;
        }
        panic!("it does not end");
    }

    /// Ends it without warning, also when it hangs.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until a process that was sent `STOP` stands still: the signal reaches its threads one after the other, and
/// until then they answer. One that has ended stands still.
///
/// # Panics
/// When it takes too long.
pub fn wait_until_stopped(id: u32) {
    for _ in 0..MOST_LOOKS {
        if !thread_states(id).contains(|state| !matches!(state, 'T' | 'Z' | 'X')) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{id} does not stop");
}

/// One letter for each thread of a process; the letters are those of proc(5), `/proc/pid/stat`.
fn thread_states(id: u32) -> String {
    let threads = fs::read_dir(format!("/proc/{id}/task"));
    threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok())
        .filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next())
        .collect()
}

/// A port of 127.0.0.1 that nothing listens on.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    address.expect("there is a free port").port()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    /// Three threads that never rest.
    const BUSY: &str = "import threading\n\
        def run():\n    while True: pass\n\
        for _ in range(3): threading.Thread(target=run).start()\n\
        print('running', flush=True)\n";

    #[test]
    fn a_stopped_program_stands_still_with_all_its_threads() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        let mut process = Process::new(output.clone());
        let mut python = Command::new("python3");
        if python.arg("--version").output().is_err() {
            eprintln!("skipped: there is no python3");
            return;
        }
        process.start(Command::new("python3").args(["-c", BUSY]));
        let started = || {
            let mut first = String::new();
            BufReader::new(File::open(&output).unwrap())
                .read_line(&mut first)
                .unwrap();
            first == "running\n"
        };
        while !started() {
            std::thread::sleep(MOMENT);
        }
        let id = process.child.as_ref().unwrap().id();
        for _ in 0..100 {
            process.signal("STOP");
            assert_eq!(thread_states(id), "TTTT");
            process.signal("CONT");
        }
    }
}
