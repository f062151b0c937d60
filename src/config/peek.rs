//! What commands need of the configuration to reach a daemon. They run as people who may not read every secret, so
//! nothing is read but the files of the configuration, and of those nothing that concerns targets alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use profilesync_target::Secret;
use toml::Spanned;

use super::{
    diagnostics::Diagnostics,
    load::{absolute, base},
    merge, raw,
    read::read,
    sources::Sources,
};
use crate::config::Address;

/// Where the configuration is unless somebody says otherwise.
pub const USUAL: &str = "/etc/profilesync/profilesync.toml";

/// The parts of a configuration that concern a daemon's neighbours.
pub struct Peek {
    /// `admin.socket`
    pub socket: PathBuf,
    /// `store.path`
    pub store: PathBuf,
    /// `listener.address`
    pub address: Address,
    /// `listener.path`
    pub path: String,
    /// Whether the listener serves https.
    pub tls: bool,
    /// The apps, by name.
    pub apps: Vec<PeekApp>,
}

/// An app, as far as `send` needs it.
pub struct PeekApp {
    /// NAME of `[apps.NAME]`.
    pub name: String,
    /// `sdk_app_id`
    pub sdk_app_id: u64,
    /// Its first token, not read yet.
    pub token: Option<Secret>,
}

/// The configuration that a command is to go by.
#[derive(Clone, Debug)]
pub struct File {
    path: PathBuf,
    /// Whether somebody said so. If not, it need not be there.
    named: bool,
}

impl File {
    /// The file somebody named, or else the one at the usual place.
    #[must_use]
    pub fn new(named: Option<PathBuf>) -> Self {
        Self {
            named: named.is_some(),
            path: named.unwrap_or_else(|| PathBuf::from(USUAL)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says; the defaults if it is not there and nobody named it.
    ///
    /// # Errors
    /// When it or a drop-in cannot be read, or has mistakes outside of targets.
    pub fn peek(&self) -> Result<Peek, Diagnostics> {
        if !self.named && is_missing(&self.path) {
            return Ok(Peek::of(raw::Root::default(), &base(&self.path)));
        }
        peek(&self.path)
    }

    /// The same for who only wants to reach the daemon. Of the usual file what can be read will do: those who may use
    /// the socket need not be those who may read the configuration.
    ///
    /// # Errors
    /// As [`File::peek`], if somebody named the file.
    pub fn socket(&self) -> Result<PathBuf, Diagnostics> {
        let (peek, mistakes) = peek_at(&self.path);
        match mistakes {
            Some(mistakes) if self.named => Err(mistakes),
            _ => Ok(peek.socket),
        }
    }
}

fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Reads the file `path` and the drop-ins beside it.
///
/// # Errors
/// When one of them cannot be read, or has mistakes outside of targets.
pub fn peek(path: &Path) -> Result<Peek, Diagnostics> {
    match peek_at(path) {
        (peek, None) => Ok(peek),
        (_, Some(mistakes)) => Err(mistakes),
    }
}

/// What can be read, and what is wrong.
fn peek_at(path: &Path) -> (Peek, Option<Diagnostics>) {
    let (sources, mut found) = Sources::read(path);
    let merge::Parsed {
        tree,
        syntax,
        masks,
        conflicts,
    } = merge::parse(&sources);
    let is_toml = syntax.is_empty();
    found.extend(syntax);
    found.extend(conflicts);
    let mut mistakes = Vec::new();
    let root = read::<raw::Root>("", Spanned::new(0..0, tree), &mut mistakes).value;
    if is_toml {
        found.append(&mut mistakes);
    }
    let peek = Peek::of(root.unwrap_or_default(), &base(path));
    let wrong = !found.is_empty();
    (peek, wrong.then(|| Diagnostics::new(sources, masks, found)))
}

impl Peek {
    fn of(root: raw::Root, base: &Path) -> Self {
        Self {
            socket: base.join(root.admin.socket),
            store: base.join(root.store.path),
            address: absolute(root.listener.address.0, base),
            path: root.listener.path.0,
            tls: root.listener.tls.is_some(),
            apps: root
                .apps
                .into_iter()
                .map(|(name, app)| peek_app(name, app.value, base))
                .collect(),
        }
    }
}

fn peek_app(name: String, raw: raw::App, base: &Path) -> PeekApp {
    let mut tokens = raw.tokens.into_iter().flat_map(|tokens| tokens.value);
    let token = raw.token.or_else(|| tokens.next());
    PeekApp {
        name,
        sdk_app_id: raw.sdk_app_id.value.get(),
        token: token.map(|token| token.value.within(base)),
    }
}
