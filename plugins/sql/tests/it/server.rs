//! Database servers of our own: started from the system's binaries in a temporary folder, on a free port.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use profilesync_target::{free_port, wait_until_stopped};
use tempfile::TempDir;

/// Longest wait for a server to start or stop.
const LIMIT: Duration = Duration::from_secs(60);

/// The password of the server's user, where one is asked for.
pub(crate) const PASSWORD: &str = "hunter2 & co";

/// Several servers together would want more of the kernel's queues than a user may have.
const NO_AIO: &str = "--innodb-use-native-aio=OFF";

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    MariaDb,
}

/// A server; killed and removed when dropped.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    dir: TempDir,
    child: Option<Child>,
}

impl Server {
    /// A server that takes connections; `None` when its programs are not on this machine.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let dir = TempDir::with_prefix("profilesync-sql-").unwrap();
        let port = free_port();
        let mut server = Self {
            kind,
            port,
            dir,
            child: None,
        };
        if !server.initialize() {
            eprintln!("skipped: no {kind:?} server on this machine");
            return None;
        }
        server.resume();
        Some(server)
    }

    /// The URL of a database, without the password.
    pub(crate) fn url(&self, database: &str) -> String {
        let port = self.port;
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/{database}"),
            Kind::MariaDb => format!("mysql://root@127.0.0.1:{port}/{database}"),
        }
    }

    /// The URL with the password, for clients of the tests.
    pub(crate) fn open_url(&self, database: &str) -> String {
        self.url(database).replace('@', ":hunter2%20%26%20co@")
    }

    /// The name of a database that is there from the start.
    pub(crate) fn database(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "postgres",
            Kind::MariaDb => "crm",
        }
    }

    /// Starts the process in the folder as it is, and waits until it takes connections.
    pub(crate) fn resume(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"));
        let log = log.unwrap();
        let data = self.data();
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = as_user("postgres", &postgres("postgres"));
                command
                    .arg("-D")
                    .arg(&data)
                    .args(["-p", &self.port.to_string(), "-k", ""]);
                command.args([
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    "max_connections=50",
                ]);
                command.args(["-c", "shared_buffers=32MB"]);
                if data.join("server.crt").exists() {
                    command.args(["-c", "ssl=on"]);
                }
                command
            }
            Kind::MariaDb => {
                let mut command = self.mariadb("mariadbd");
                command.args([
                    "--no-defaults",
                    "--user=root",
                    "--bind-address=127.0.0.1",
                    "--skip-name-resolve",
                ]);
                command.arg(format!("--datadir={}", data.display()));
                command.arg(format!(
                    "--socket={}",
                    self.dir.path().join("socket").display()
                ));
                command.arg(format!("--port={}", self.port));
                command.args([
                    NO_AIO,
                    "--innodb-buffer-pool-size=32M",
                    "--innodb-log-file-size=16M",
                ]);
                command
            }
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        let start = Instant::now();
        while !self.answers() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < LIMIT,
                "it does not start:\n{}",
                self.log()
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once, without a clean shutdown.
    pub(crate) fn stop(&mut self) {
        // PostgreSQL's children outlive SIGKILL for a while; QUIT is its own crash.
        let signal = match self.kind {
            Kind::Postgres => "QUIT",
            Kind::MariaDb => "KILL",
        };
        self.signal("CONT");
        self.signal(signal);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// Whether its process was started and not stopped.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Freezes it: connections stay open, and nothing answers.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`Server::pause`].
    pub(crate) fn unpause(&self) {
        self.signal("CONT");
    }

    /// Where its files are; PostgreSQL reads `server.crt` and `server.key` there.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Lets a file of the server be read by it.
    pub(crate) fn hand_over(&self, path: &Path) {
        if self.kind == Kind::Postgres {
            run(Command::new("chown").arg("postgres:").arg(path));
        }
    }

    /// Keeps a file from all but its owner, as a private key must be.
    pub(crate) fn protect(&self, path: &Path) {
        run(Command::new("chmod").arg("600").arg(path));
    }

    /// A program of MariaDB's. It removes the temporary tables it finds, so every server has a folder for its own.
    fn mariadb(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("TMPDIR", self.dir.path());
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn initialize(&self) -> bool {
        let data = self.data();
        match self.kind {
            Kind::Postgres => {
                let initdb = postgres("initdb");
                if !initdb.exists() {
                    return false;
                }
                let password = self.dir.path().join("password");
                fs::write(&password, PASSWORD).unwrap();
                self.hand_over(self.dir.path());
                self.hand_over(&password);
                let mut command = as_user("postgres", &initdb);
                command.arg("-D").arg(&data).args([
                    "-A",
                    "scram-sha-256",
                    "-U",
                    "postgres",
                    "-E",
                    "UTF8",
                ]);
                command
                    .args(["--locale=C.UTF-8", "--no-sync"])
                    .arg("--pwfile")
                    .arg(password);
                run(&mut command);
            }
            Kind::MariaDb => {
                let mut command = self.mariadb("mariadb-install-db");
                command.args([
                    "--no-defaults",
                    "--user=root",
                    "--auth-root-authentication-method=normal",
                    NO_AIO,
                ]);
                command.arg(format!("--datadir={}", data.display()));
                match command.output() {
                    Ok(output) => {
                        let errors = String::from_utf8_lossy(&output.stderr);
                        assert!(
                            output.status.success(),
                            "{command:?}:
{errors}"
                        );
                    }
                    Err(_) => return false,
                }
                self.set_root_password();
            }
        }
        true
    }

    /// MariaDB reads statements from its standard input when it is bootstrapped.
    fn set_root_password(&self) {
        let file = self.dir.path().join("password.sql");
        let sql = format!(
            "FLUSH PRIVILEGES;\nCREATE DATABASE crm;\n\
             CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\n\
             GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}' WITH GRANT OPTION;\n"
        );
        fs::write(&file, sql).unwrap();
        let mut command = self.mariadb("mariadbd");
        command.args(["--no-defaults", "--user=root", "--bootstrap", NO_AIO]);
        command.arg(format!("--datadir={}", self.data().display()));
        run(command.stdin(File::open(file).unwrap()));
    }

    /// Whether it speaks first, as MariaDB does, or takes a start-up packet.
    fn answers(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        if self.kind == Kind::Postgres {
            let text = b"user\0postgres\0database\0postgres\0\0";
            let mut packet = (text.len() as u32 + 8).to_be_bytes().to_vec();
            packet.extend(196_608_u32.to_be_bytes());
            packet.extend(text);
            if stream.write_all(&packet).is_err() {
                return false;
            }
            let mut first = [0];
            // 'R' asks for the password; 'E' says that it is starting up.
            return stream.read_exact(&mut first).is_ok() && first == *b"R";
        }
        stream.read_exact(&mut [0; 5]).is_ok()
    }

    /// To the process and its children.
    fn signal(&self, signal: &str) {
        let Some(child) = &self.child else { return };
        let id = child.id();
        let children =
            fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let mut ids = vec![id];
        if signal == "STOP" || signal == "CONT" {
            ids.extend(children.split_whitespace().flat_map(str::parse::<u32>));
        }
        let mut command = Command::new("kill");
        command.arg(format!("-{signal}"));
        command.args(ids.iter().map(u32::to_string));
        // A child may be gone by now.
        command.stderr(Stdio::null()).status().unwrap();
        if signal == "STOP" {
            ids.into_iter().for_each(wait_until_stopped);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.stop();
        }
    }
}

/// A program of the newest PostgreSQL there is.
fn postgres(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions.map(|entry| entry.path()).max().unwrap_or_default();
    newest.join("bin").join(program)
}

/// PostgreSQL refuses to run as root.
fn as_user(user: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={user}"))
        .arg("--clear-groups")
        .arg(program);
    command
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}
