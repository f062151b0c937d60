//! Where `send` sends to and as which app: from its flags, and from the configuration for what they leave open.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use reqwest::{Client, Url};

use super::SendArgs;
use crate::{
    config::{
        Address,
        peek::{Peek, PeekApp, peek},
    },
    exit::{Exit, Failure},
};

/// Everything a request needs beside its event.
pub(super) struct Endpoint {
    pub(super) http: Client,
    pub(super) url: Url,
    pub(super) app: u64,
    pub(super) token: Option<String>,
}

impl Endpoint {
    /// Reads the configuration only for what the flags leave open.
    pub(super) fn new(args: &SendArgs, config: &Path) -> Result<Self, Failure> {
        let numeric = args.app.as_ref().and_then(|app| app.parse().ok());
        let token_given = args.token_file.is_some() || args.unsigned;
        if let (Some(url), Some(app), true) = (&args.url, numeric, token_given) {
            return Ok(Self {
                http: client(None, args.insecure)?,
                url: url.clone(),
                app,
                token: token(args, None)?,
            });
        }
        let peek = peek(config).map_err(|mistakes| {
            mistakes
                .into_failure()
                .help("to do without it, say --url, --app SDKAPPID, and --token-file or --unsigned")
        })?;
        let (http, url) = match &args.url {
            Some(url) => (client(None, args.insecure)?, url.clone()),
            None => own_listener(&peek)?,
        };
        let app = app(args.app.as_deref(), peek.apps)?;
        let token = token(args, Some(&app))?;
        let app = app.sdk_app_id;
        Ok(Self {
            http,
            url,
            app,
            token,
        })
    }
}

/// The configured listener, on this machine. Its certificate is for the name under which the sender knows it, so
/// it is not checked.
fn own_listener(peek: &Peek) -> Result<(Client, Url), Failure> {
    let scheme = if peek.tls { "https" } else { "http" };
    let (socket, host) = match &peek.address {
        Address::Unix(socket) => (Some(socket.clone()), "localhost".into()),
        Address::Tcp(address) => (None, reachable(*address).to_string()),
    };
    let url = format!("{scheme}://{host}{}", peek.path);
    let url = url
        .parse()
        .map_err(|error| Failure::new(Exit::Config, format!("{url:?} is no URL")).because(error))?;
    Ok((client(socket, true)?, url))
}

/// An address to connect to for one that is listened on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn app(wanted: Option<&str>, mut apps: Vec<PeekApp>) -> Result<PeekApp, Failure> {
    let names: Vec<_> = apps.iter().map(|app| app.name.clone()).collect();
    if let Some(wanted) = wanted {
        let id = wanted.parse();
        apps.retain(|app| app.name == wanted || id.as_ref() == Ok(&app.sdk_app_id));
        if let (true, Ok(sdk_app_id)) = (apps.is_empty(), id) {
            return Ok(PeekApp {
                name: wanted.into(),
                sdk_app_id,
                token: None,
            });
        }
    }
    let several = apps.len() > 1;
    match apps.pop() {
        Some(app) if !several => Ok(app),
        _ => {
            let message = match wanted {
                Some(wanted) => format!("no app {wanted:?} is configured"),
                None if several => "it is not clear which app sends".into(),
                None => "no app is configured".into(),
            };
            let help = if names.is_empty() {
                "say --app SDKAPPID; `profilesync check` tells what is wrong with the configuration"
                    .into()
            } else {
                format!("say --app with one of: {}", names.join(", "))
            };
            Err(Failure::new(Exit::Usage, message).help(help))
        }
    }
}

fn token(args: &SendArgs, app: Option<&PeekApp>) -> Result<Option<String>, Failure> {
    if args.unsigned {
        return Ok(None);
    }
    if let Some(file) = &args.token_file {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let message = format!("the token's file {} cannot be read", file.display());
            Failure::new(Exit::Failed, message).because(error)
        })?;
        return Ok(Some(text.trim_end_matches(['\r', '\n']).into()));
    }
    let Some(secret) = app.and_then(|app| app.token.as_ref()) else {
        return Ok(None);
    };
    let token = secret.read().map_err(|error| {
        Failure::new(Exit::Config, "the app's token cannot be read")
            .because(error)
            .help("say --token-file FILE, or --unsigned")
    })?;
    Ok(Some(token))
}

fn client(socket: Option<PathBuf>, insecure: bool) -> Result<Client, Failure> {
    // What is sent is signed, and for the daemon alone.
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(super::TIMEOUT)
        .tls_danger_accept_invalid_certs(insecure);
    if let Some(socket) = socket {
        builder = builder.unix_socket(socket);
    }
    builder.build().map_err(|error| {
        Failure::new(Exit::Failed, "the HTTP client cannot be made").because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps() -> Vec<PeekApp> {
        [("production", 1), ("test", 2)]
            .map(|(name, sdk_app_id)| PeekApp {
                name: name.into(),
                sdk_app_id,
                token: None,
            })
            .into()
    }

    #[test]
    fn an_app_is_found_by_name_or_id_or_by_being_the_only_one() {
        let found = |wanted, apps| app(wanted, apps).map(|app| app.sdk_app_id).ok();
        assert_eq!(found(Some("test"), apps()), Some(2));
        assert_eq!(found(Some("2"), apps()), Some(2));
        assert_eq!(found(Some("3"), apps()), Some(3));
        assert_eq!(found(Some("tset"), apps()), None);
        assert_eq!(found(None, apps()), None);
        assert_eq!(found(None, apps().split_off(1)), Some(2));
    }

    #[test]
    fn wildcard_addresses_are_reached_on_loopback() {
        let text = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(text("0.0.0.0:8700"), "127.0.0.1:8700");
        assert_eq!(text("[::]:8700"), "[::1]:8700");
        assert_eq!(text("192.0.2.1:1"), "192.0.2.1:1");
    }
}
