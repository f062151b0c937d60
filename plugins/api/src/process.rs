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
