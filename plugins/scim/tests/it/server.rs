//! A scim2-server of our own (PyPI: `scim2-server`), which keeps everything in memory.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// What it asks for.
pub(crate) const TOKEN: &str = "token-of-scim";

/// An extension of users that holds all of a document.
pub(crate) const EXTENSION: &str = "urn:example:params:scim:schemas:extension:profilesync:2.0:User";

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";

/// A running server; killed when dropped.
pub(crate) struct Server {
    folder: TempDir,
    child: Option<Child>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// Whether the server is installed; says so if it is not.
#[must_use]
pub(crate) fn is_there() -> bool {
    let found = Command::new("python3")
        .args(["-c", "import scim2_server.testserver"])
        .stderr(Stdio::null())
        .status();
    let there = found.is_ok_and(|status| status.success());
    if !there {
        eprintln!("skipped: there is no scim2-server (pip install scim2-server)");
    }
    there
}

impl Server {
    /// An empty server.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, value: Value| {
            fs::write(folder.path().join(name), value.to_string()).unwrap();
        };
        write("schemas.json", schemas());
        write("types.json", types());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = Self {
            folder,
            child: None,
            address: listener.local_addr().unwrap(),
        };
        drop(listener);
        server.restart().await;
        server
    }

    /// Starts it again after [`Server::stop`], empty.
    pub(crate) async fn restart(&mut self) {
        self.stop();
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let child = Command::new("python3")
            .args([
                "-c",
                "import sys; from scim2_server.testserver.cli import main; sys.exit(main())",
                "--port",
                &self.address.port().to_string(),
                "--bearer-token",
                TOKEN,
                "--schema",
                "schemas.json",
                "--resource-type",
                "types.json",
            ])
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(self.address).is_err() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "scim2-server ended: {log}");
            assert!(
                Instant::now() < deadline,
                "scim2-server does not listen: {log}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills it, and with it all it holds.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Whether it runs.
    #[must_use]
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Sends it a signal: `STOP` lets it hang, `CONT` goes on.
    pub(crate) fn signal(&self, name: &str) {
        let Some(child) = &self.child else { return };
        let status = Command::new("kill")
            .args([&format!("-{name}"), &child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// The `url` of a target.
    #[must_use]
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v2", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn attribute(name: &str, kind: &str, exact: bool, unique: bool) -> Value {
    json!({
        "name": name, "type": kind, "multiValued": false, "required": false, "caseExact": exact,
        "mutability": "readWrite", "returned": "default",
        "uniqueness": if unique { "server" } else { "none" },
    })
}

fn schemas() -> Value {
    let schema = |id: &str, name: &str, attributes: Vec<Value>| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
            "id": id, "name": name, "description": name, "attributes": attributes,
        })
    };
    let text = |name| attribute(name, "string", true, false);
    let mut photos = attribute("photos", "complex", false, false);
    photos["multiValued"] = true.into();
    let mut photo = attribute("value", "reference", true, false);
    photo["referenceTypes"] = json!(["external"]);
    photos["subAttributes"] = json!([photo, attribute("type", "string", false, false)]);
    let mut all: Vec<_> = [
        "account",
        "name",
        "introduction",
        "faceUrl",
        "organization",
        "owner",
        "operator",
        "extra",
    ]
    .map(text)
    .into();
    all.extend(
        ["appId", "revision", "eventTime"].map(|name| attribute(name, "integer", false, false)),
    );
    json!([
        schema(
            USER,
            "User",
            vec![
                attribute("userName", "string", false, true),
                attribute("displayName", "string", false, false),
                attribute("nickName", "string", false, false),
                attribute("active", "boolean", false, false),
                photos,
            ]
        ),
        schema(
            GROUP,
            "Group",
            vec![attribute("displayName", "string", false, false)]
        ),
        schema(EXTENSION, "Profile", all),
    ])
}

fn types() -> Value {
    let kind = |name: &str, endpoint: &str, schema: &str, extensions: Value| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": name, "name": name, "endpoint": endpoint, "schema": schema,
            "schemaExtensions": extensions,
        })
    };
    let extension = json!([{ "schema": EXTENSION, "required": false }]);
    json!([
        kind("User", "/Users", USER, extension),
        kind("Group", "/Groups", GROUP, json!([])),
    ])
}
