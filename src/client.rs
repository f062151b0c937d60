//! The commands' way to the running daemon: the admin API over its Unix socket.

use std::{io, path::PathBuf, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    admin::Problem,
    exit::{Exit, Failure, root},
};

/// How long an answer may take. A backup or a reload may take longer than any read.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const ACT_TIMEOUT: Duration = Duration::from_secs(1800);

/// A connection to the daemon.
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("the daemon does not answer on {}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        cause: reqwest::Error,
    },
    /// The daemon said no.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// A path cannot name the account.
    #[error(
        "an account called . or .. cannot be asked for: in a path these are steps; `profilesync accounts` lists it"
    )]
    Dots,
    /// The answer is none that this version knows.
    #[error(
        "the daemon's answer to {path} cannot be read: {status} {text:?}; is it of another version?"
    )]
    Strange {
        /// What was asked.
        path: String,
        /// The HTTP status.
        status: StatusCode,
        /// The beginning of the answer.
        text: String,
    },
}

impl Client {
    /// A client of the daemon behind this socket. Nothing is connected yet.
    ///
    /// # Errors
    /// Never on a system that can make sockets.
    pub fn new(socket: PathBuf) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .unix_socket(socket.as_path())
            .tls_certs_only([]) // reading the system's would fail where there are none, and none are needed
            .build()
            .map_err(|error| {
                Failure::new(Exit::Failed, "the HTTP client cannot be made").because(error)
            })?;
        Ok(Self { http, socket })
    }

    /// Reads, as the text of the JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Reads.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(path, &self.text(path).await?)
    }

    /// Makes the daemon do something.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        parse(path, &self.call(Method::POST, path, Some(body)).await?)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<String, ClientError> {
        let unreachable = |cause| ClientError::Unreachable {
            socket: self.socket.clone(),
            cause,
        };
        if path
            .split(['/', '?'])
            .any(|part| matches!(part, "%2E" | "%2E%2E"))
        {
            return Err(ClientError::Dots);
        }
        let timeout = if method == Method::GET {
            READ_TIMEOUT
        } else {
            ACT_TIMEOUT
        };
        let request = self
            .http
            .request(method, format!("http://localhost{path}"))
            .timeout(timeout);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(text);
        }
        Err(match serde_json::from_str(&text) {
            Ok(problem) => ClientError::Refused(problem),
            Err(_) => strange(path, status, &text),
        })
    }
}

fn parse<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, ClientError> {
    serde_json::from_str(text).map_err(|_| strange(path, StatusCode::OK, text))
}

fn strange(path: &str, status: StatusCode, text: &str) -> ClientError {
    ClientError::Strange {
        path: path.into(),
        status,
        text: text.chars().take(200).collect(),
    }
}

impl ClientError {
    /// Whether there is no daemon: its socket does not exist, or nothing listens on it.
    #[must_use]
    pub fn is_down(&self) -> bool {
        let Self::Unreachable { cause, .. } = self else {
            return false;
        };
        matches!(
            io_kind(cause),
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        )
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreachable { socket, cause } => {
                let help = unreachable_help(io_kind(&cause));
                let message = format!("the daemon does not answer on {}", socket.display());
                Self::new(Exit::Unreachable, message)
                    .because(root(&cause).to_string())
                    .help(help)
            }
            other => Self::new(Exit::Failed, other.to_string()),
        }
    }
}

fn unreachable_help(kind: Option<io::ErrorKind>) -> &'static str {
    match kind {
        Some(io::ErrorKind::PermissionDenied) => {
            "you may not use the socket: join the group profilesync, or use sudo"
        }
        Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            "is it running? see `systemctl status profilesync`; if its socket is elsewhere, say --socket PATH or -c FILE"
        }
        _ => "see the daemon's log: `journalctl -u profilesync`",
    }
}

fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    root(error).downcast_ref().map(io::Error::kind)
}

/// A part of a path, encoded.
#[must_use]
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_survive_any_account() {
        assert_eq!(segment("@TOA#_a/b?"), "%40TOA%23%5Fa%2Fb%3F");
    }

    #[tokio::test]
    async fn steps_of_a_path_are_no_accounts() {
        let client = Client::new("/nowhere".into()).unwrap();
        for account in [".", ".."] {
            let path = format!("/v1/accounts/1/{}", segment(account));
            assert!(matches!(client.text(&path).await, Err(ClientError::Dots)));
        }
    }
}
