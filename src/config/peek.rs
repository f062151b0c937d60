//! What commands need of the configuration to reach a daemon. They run as people who may not read every secret and
//! every file, so nothing is read but the files of the configuration that can be, and mistakes are passed over.

use std::path::{Path, PathBuf};

use profilesync_target::Secret;
use toml::Spanned;

use super::{
    diagnostics::Diagnostics,
    load::{absolute, base},
    mask::Masks,
    merge, raw,
    read::read,
    sources::Sources,
};
use crate::config::Address;

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

/// Reads the file `path`, and the drop-ins beside it as far as possible.
///
/// # Errors
/// When the main file cannot be read.
pub fn peek(path: &Path) -> Result<Peek, Diagnostics> {
    let (sources, unread) = Sources::read(path);
    if sources.files.is_empty() {
        return Err(Diagnostics::new(sources, Masks::default(), unread));
    }
    let tree = Spanned::new(0..0, merge::parse(&sources).tree);
    let root = read::<raw::Root>("", tree, &mut Vec::new())
        .value
        .unwrap_or_default();
    let base = &base(path);
    Ok(Peek {
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
    })
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
