//! A slapd of our own: on a free port, with its database in a folder that goes with it.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use ldap3::{Ldap, LdapConnAsync};
use profilesync_target::{Process, free_port};
use tempfile::TempDir;

/// Below it are the accounts.
pub(crate) const BASE: &str = "ou=accounts,dc=example,dc=com";

/// Who may do everything.
pub(crate) const BIND_DN: &str = "cn=admin,dc=example,dc=com";

/// Its password.
pub(crate) const PASSWORD: &str = "hunter2-of-ldap";

/// A class that holds all of a document, and the attributes for it; the revision is a number.
const SCHEMA: &str = include_str!("profilesync.schema");

/// A running slapd; killed when dropped.
pub(crate) struct Server {
    /// The program; it ends before its folder goes.
    pub(crate) process: Process,
    folder: TempDir,
    /// Where it listens without TLS, and by StartTLS if it has a certificate.
    pub(crate) address: SocketAddr,
    /// Where it listens with TLS from the start, if it has a certificate.
    pub(crate) tls_address: SocketAddr,
    tls: bool,
}

/// Files of a certificate, in PEM form.
pub(crate) struct Certificate<'a> {
    /// The certificate.
    pub(crate) certificate: &'a Path,
    /// Its key.
    pub(crate) key: &'a Path,
}

/// Whether slapd is installed; says so if it is not.
#[must_use]
pub(crate) fn is_there() -> bool {
    let there = program().is_some();
    if !there {
        eprintln!("skipped: there is no slapd (Debian: apt-get install slapd)");
    }
    there
}

fn program() -> Option<PathBuf> {
    [
        "/usr/sbin/slapd",
        "/usr/local/libexec/slapd",
        "/usr/local/sbin/slapd",
    ]
    .map(PathBuf::from)
    .into_iter()
    .find(|path| path.is_file())
}

impl Server {
    /// A server without TLS whose directory holds the base alone.
    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    /// The same with TLS, if there is a certificate.
    pub(crate) async fn with(certificate: Option<Certificate<'_>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_configuration(folder.path(), certificate.as_ref());
        let mut server = Self {
            process: Process::new(folder.path().join("log")),
            folder,
            address: free_address(),
            tls_address: free_address(),
            tls: certificate.is_some(),
        };
        server.restart().await;
        server.add_base().await;
        server
    }

    /// Starts it again after its process was ended, with what it held.
    pub(crate) async fn restart(&mut self) {
        let mut urls = format!("ldap://{}", self.address);
        if self.tls {
            urls = format!("{urls} ldaps://{}", self.tls_address);
        }
        let config = self.folder.path().join("slapd.conf");
        let mut command = Command::new(program().unwrap());
        self.process
            .start(command.args(["-d", "0", "-h", &urls, "-f"]).arg(config));
        while TcpStream::connect(self.address).is_err() {
            self.process.starting().await;
        }
    }

    /// A connection that may do everything.
    pub(crate) async fn admin(&self) -> Ldap {
        let url = format!("ldap://{}", self.address);
        let (driver, mut ldap) = LdapConnAsync::new(&url).await.unwrap();
        tokio::spawn(driver.drive());
        ldap.simple_bind(BIND_DN, PASSWORD)
            .await
            .unwrap()
            .success()
            .unwrap();
        ldap
    }

    async fn add_base(&self) {
        let mut ldap = self.admin().await;
        for (dn, class, name, value) in [
            ("dc=example,dc=com", "domain", "dc", "example"),
            (BASE, "organizationalUnit", "ou", "accounts"),
        ] {
            let attributes = vec![("objectClass", [class].into()), (name, [value].into())];
            ldap.add(dn, attributes).await.unwrap().success().unwrap();
        }
    }
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// An account called `guilty`, or an entry with that `cn`, is against the rules of this server.
fn write_configuration(folder: &Path, certificate: Option<&Certificate<'_>>) {
    let schema = folder.join("profilesync.schema");
    fs::write(&schema, SCHEMA).unwrap();
    let database = folder.join("database");
    fs::create_dir(&database).unwrap();
    let mut text = String::new();
    for name in ["core", "cosine", "inetorgperson"] {
        text.push_str(&format!("include /etc/ldap/schema/{name}.schema\n"));
    }
    text.push_str(&format!("include {}\n", schema.display()));
    if let Some(Certificate { certificate, key }) = certificate {
        text.push_str(&format!("TLSCertificateFile {}\n", certificate.display()));
        text.push_str(&format!("TLSCertificateKeyFile {}\n", key.display()));
    }
    text.push_str(&format!(
        "pidfile {folder}/pid\n\
         sizelimit unlimited\n\
         modulepath /usr/lib/ldap\n\
         moduleload back_mdb\n\
         moduleload constraint\n\
         database mdb\n\
         maxsize 1073741824\n\
         suffix dc=example,dc=com\n\
         rootdn {BIND_DN}\n\
         rootpw {PASSWORD}\n\
         directory {database}\n\
         overlay constraint\n\
         constraint_attribute profilesyncAccount,cn negregex ^guilty$\n",
        folder = folder.display(),
        database = database.display(),
    ));
    fs::write(folder.join("slapd.conf"), text).unwrap();
}
