//! A scim2-server of our own (PyPI: `scim2-server`), which keeps everything in memory.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use profilesync_target::{Process, free_port};
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
    /// The program; it ends before its folder goes.
    pub(crate) process: Process,
    folder: TempDir,
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
        let mut server = Self {
            process: Process::new(folder.path().join("log")),
            folder,
            address: SocketAddr::from(([127, 0, 0, 1], free_port())),
        };
        server.restart().await;
        server
    }

    /// Starts it again after its process was ended, empty.
    pub(crate) async fn restart(&mut self) {
        let mut command = Command::new("python3");
        command
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
            .current_dir(self.folder.path());
        self.process.start(&mut command);
        while TcpStream::connect(self.address).is_err() {
            self.process.starting().await;
        }
    }

    /// The `url` of a target.
    #[must_use]
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v2", self.address)
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
    let mut members = attribute("members", "complex", false, false);
    members["multiValued"] = true.into();
    members["subAttributes"] = json!([text("value")]);
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
            vec![attribute("displayName", "string", false, false), members]
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
