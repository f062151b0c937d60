//! The settings of a table: the keys as written, and the check that turns them into an address and statements.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use profilesync_target::{OpenContext, Secret, SettingsError, read_secret};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use toml::Spanned;

use crate::{
    address::{Address, Identity, Place, Security},
    columns::{self, Column, MEMBERS, Member},
    dialect::{Dialect, Table},
};

/// More columns would need more values in a batch than databases take in one statement.
const MAX_COLUMNS: usize = 200;

/// Keeps one row per account in a table of a database.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// The database: `postgres://USER@HOST/DATABASE`, `mysql://USER@HOST/DATABASE` or `sqlite:FILE`.
    #[schemars(with = "Secret")]
    url: Spanned<Secret>,
    /// The user's password, unless the URL holds it.
    #[schemars(with = "Option<Secret>")]
    password: Option<Spanned<Secret>>,
    /// A Unix socket that takes the place of host and port.
    #[schemars(with = "Option<PathBuf>")]
    socket: Option<Spanned<PathBuf>>,
    /// The table: `TABLE` or `SCHEMA.TABLE`.
    #[schemars(with = "String")]
    table: Spanned<String>,
    /// Which column holds which member of the document. By default every member has a column of its own name.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    columns: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    /// Creates the table if there is none.
    #[serde(default)]
    create_table: bool,
    /// What becomes of the row of a destroyed account.
    #[serde(default)]
    #[schemars(with = "Destroy")]
    destroy: Option<Spanned<Destroy>>,
    /// TLS.
    #[schemars(with = "Option<Tls>")]
    tls: Option<Spanned<Tls>>,
}

/// What becomes of the row of a destroyed account.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Destroy {
    /// It is deleted.
    #[default]
    Delete,
    /// It stays, and its status says `destroyed`.
    Flag,
}

/// TLS.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// By default verified, but off to this machine itself when nothing else is set.
    mode: Option<Mode>,
    /// PEM file of root certificates to trust beside the system's.
    #[schemars(with = "Option<PathBuf>")]
    ca: Option<Spanned<PathBuf>>,
    /// PEM file of the client's certificate.
    #[schemars(with = "Option<PathBuf>")]
    certificate: Option<Spanned<PathBuf>>,
    /// PEM file of its key.
    #[schemars(with = "Option<PathBuf>")]
    private_key: Option<Spanned<PathBuf>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// The server's certificate must be valid for its host name.
    Verify,
    /// Encrypted, to whoever answers.
    Unverified,
    /// In clear.
    Off,
}

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) address: Address,
    pub(crate) table: Table,
    pub(crate) create_table: bool,
    pub(crate) destroy: Destroy,
    pub(crate) identity: serde_json::Value,
}

impl Raw {
    /// Reads secrets and certificates, and checks every value.
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let base = &context.base;
        let url = read_secret(&self.url, base)?;
        let wrong_url = |message: String| {
            let help =
                "write postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:FILE";
            SettingsError::at(self.url.span(), message).help(help)
        };
        let mut place = Place::parse(&url, base).map_err(wrong_url)?;
        let given = self
            .password
            .as_ref()
            .map(|secret| read_secret(secret, base))
            .transpose()?;
        let password = match (&mut place, given, &self.password) {
            (Place::Network { password: None, .. }, given, _) => given,
            (Place::Network { password, .. }, None, _) => password.take(),
            (Place::Network { .. }, Some(_), Some(at)) => {
                let message = "`url` and `password` both hold the password";
                return Err(SettingsError::at(at.span(), message).help("remove it from the URL"));
            }
            (Place::File(_), Some(_), Some(at)) => return Err(not_of_a_file(at, "password")),
            (Place::File(_), ..) | (_, Some(_), None) => None,
        };
        if let (Place::File(_), Some(at)) = (&place, &self.socket) {
            return Err(not_of_a_file(at, "socket"));
        }
        let dialect = place.dialect();
        let (schema, name) = table_name(&self.table, dialect)?;
        let columns = check_columns(self.columns.as_ref(), dialect)?;
        let destroy = self
            .destroy
            .as_ref()
            .map_or(Destroy::Delete, |destroy| *destroy.get_ref());
        if let (Destroy::Flag, Some(at)) = (destroy, &self.destroy)
            && !columns.iter().any(|column| column.member == Member::Status)
        {
            let message = "`destroy = \"flag\"` needs a column for `status`";
            return Err(SettingsError::at(at.span(), message)
                .help("add one to `columns`: state = \"status\""));
        }
        let local = !place.is_remote() || self.socket.is_some();
        let security = security(self.tls.as_ref(), &place, local, base)?;
        let socket = self.socket.map(|socket| base.join(socket.into_inner()));
        let address = Address::new(
            place,
            password,
            socket.as_deref(),
            security,
            self.create_table,
            context.timeout,
        );
        let identity = json!({
            "database": address.shown,
            "table": [schema, name],
            "columns": columns.iter().map(|c| format!("{} {:?}", c.name, c.member)).collect::<Vec<_>>(),
            "destroy": destroy,
        });
        Ok(Checked {
            address,
            table: Table {
                dialect,
                schema,
                name,
                columns,
            },
            create_table: self.create_table,
            destroy,
            identity,
        })
    }
}

fn not_of_a_file<T>(at: &Spanned<T>, key: &str) -> SettingsError {
    SettingsError::at(
        at.span(),
        format!("`{key}` is for a server, and SQLite is a file"),
    )
}

/// Schema and table.
fn table_name(
    text: &Spanned<String>,
    dialect: Dialect,
) -> Result<(Option<String>, String), SettingsError> {
    let (schema, name) = match text.get_ref().split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, text.get_ref().as_str()),
    };
    for part in schema.into_iter().chain([name]) {
        check_name(part, dialect, "table")
            .and_then(|()| match part.contains('.') {
                true => Err("`table` has more than a schema and a name".to_owned()),
                false => Ok(()),
            })
            .map_err(|message| {
                SettingsError::at(text.span(), message).help("write TABLE or SCHEMA.TABLE")
            })?;
    }
    Ok((schema.map(str::to_owned), name.to_owned()))
}

fn check_name(name: &str, dialect: Dialect, what: &str) -> Result<(), String> {
    let most = dialect.max_name();
    if name.is_empty() || name.len() > most || name.chars().any(char::is_control) {
        return Err(format!(
            "{name:?} is no name of a {what}: it has 1 to {most} bytes and no control characters"
        ));
    }
    Ok(())
}

fn check_columns(
    given: Option<&Spanned<BTreeMap<String, Spanned<String>>>>,
    dialect: Dialect,
) -> Result<Vec<Column>, SettingsError> {
    let Some(given) = given else {
        return Ok(columns::default());
    };
    let mut columns = Vec::new();
    let mut names = BTreeSet::new();
    for (name, member) in given.get_ref() {
        let wrong = |message| SettingsError::at(member.span(), message);
        check_name(name, dialect, "column").map_err(wrong)?;
        // Databases do not tell names by case, or not all of them.
        if !names.insert(name.to_lowercase()) && dialect != Dialect::Postgres {
            return Err(wrong(format!(
                "there are two columns {name:?}, which differ by case alone"
            )));
        }
        let known = Member::of_name(member.get_ref()).ok_or_else(|| {
            let members = MEMBERS.map(|(name, _)| format!("`{name}`")).join(", ");
            wrong(format!("a document has no member {:?}", member.get_ref()))
                .help(format!("write one of {members}, or `extra.NAME`"))
        })?;
        columns.push(Column {
            name: name.clone(),
            member: known,
        });
    }
    for needed in ["sdk_app_id", "account", "revision"] {
        let member = Member::of_name(needed);
        let count = columns
            .iter()
            .filter(|column| Some(&column.member) == member.as_ref())
            .count();
        if count != 1 {
            let message = format!("`columns` must have one column for `{needed}`, and has {count}");
            return Err(SettingsError::at(given.span(), message)
                .help("account and app are the key, and the revision keeps old profiles from replacing new ones"));
        }
    }
    if columns.len() > MAX_COLUMNS {
        let message = format!(
            "`columns` has {} columns, more than {MAX_COLUMNS}",
            columns.len()
        );
        return Err(SettingsError::at(given.span(), message));
    }
    Ok(columns)
}

fn security(
    tls: Option<&Spanned<Tls>>,
    place: &Place,
    local: bool,
    base: &Path,
) -> Result<Security, SettingsError> {
    let Some(spanned) = tls else {
        let verified = Security::Verified {
            ca: None,
            identity: None,
        };
        return Ok(if local { Security::Off } else { verified });
    };
    if let Place::File(_) = place {
        return Err(not_of_a_file(spanned, "tls"));
    }
    let tls = spanned.get_ref();
    let mode = tls.mode.unwrap_or(Mode::Verify);
    let unused = match mode {
        Mode::Verify => false,
        Mode::Unverified => tls.ca.is_some(),
        Mode::Off => tls.ca.is_some() || tls.certificate.is_some() || tls.private_key.is_some(),
    };
    if unused {
        let message = "`tls` names certificates that its mode does not use";
        return Err(SettingsError::at(spanned.span(), message).help("write mode = \"verify\""));
    }
    let identity: Identity = match (&tls.certificate, &tls.private_key) {
        (Some(certificate), Some(key)) => {
            Some((certificates(certificate, base)?, private_key(key, base)?))
        }
        (None, None) => None,
        _ => {
            let message = "`tls.certificate` and `tls.private_key` need each other";
            return Err(SettingsError::at(spanned.span(), message));
        }
    };
    Ok(match mode {
        Mode::Off => Security::Off,
        Mode::Unverified => Security::Unverified(identity),
        Mode::Verify => Security::Verified {
            ca: tls
                .ca
                .as_ref()
                .map(|path| certificates(path, base))
                .transpose()?,
            identity,
        },
    })
}

fn pem(path: &Spanned<PathBuf>, base: &Path) -> Result<(PathBuf, Vec<u8>), SettingsError> {
    let file = base.join(path.get_ref());
    let bytes = std::fs::read(&file).map_err(|error| {
        SettingsError::at(
            path.span(),
            format!("{} cannot be read: {error}", file.display()),
        )
    })?;
    Ok((file, bytes))
}

fn certificates(path: &Spanned<PathBuf>, base: &Path) -> Result<Vec<u8>, SettingsError> {
    let (file, bytes) = pem(path, base)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(bytes),
        _ => {
            let message = format!("{} holds no certificate in PEM", file.display());
            Err(SettingsError::at(path.span(), message))
        }
    }
}

fn private_key(path: &Spanned<PathBuf>, base: &Path) -> Result<Vec<u8>, SettingsError> {
    let (file, bytes) = pem(path, base)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => {
            let message = format!("{} holds no private key in PEM", file.display());
            Err(SettingsError::at(path.span(), message))
        }
    }
}
