//! Binding the addresses of `[admin]`. On the socket, who may connect is who may write the file: it is given its
//! mode before anything can connect, and it takes its name only then.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_fd, listen, socket_with,
};
use tokio::net::{TcpListener, UnixListener};

use crate::{accept::Socket, config};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket cannot be made.
    #[error("the socket {} cannot be made; give it a place where this user may write", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Something else is there.
    #[error("the socket {} cannot be made: {what}", path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The TCP address cannot be bound.
    #[error("admin.address {address} cannot be bound")]
    Address {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Binds the socket and, if there is one, the TCP address: each unless one of its kind is among `sockets` already.
///
/// # Errors
/// When one of them cannot be had.
pub async fn bind_rest(config: &config::Admin, sockets: &mut Vec<Socket>) -> Result<(), BindError> {
    let is_unix = |socket: &Socket| matches!(socket, Socket::Unix(_));
    let (has_unix, has_tcp) = (sockets.iter().any(is_unix), !sockets.iter().all(is_unix));
    if !has_unix {
        sockets.push(Socket::Unix(bind_unix(&config.socket)?));
    }
    if let Some(address) = config.address.filter(|_| !has_tcp) {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|cause| BindError::Address { address, cause })?;
        sockets.push(Socket::Tcp(listener));
    }
    Ok(())
}

/// Binds a Unix socket of mode 0660. One that nothing listens on any more is replaced.
///
/// # Errors
/// When something else is there, or the socket cannot be made.
pub fn bind_unix(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |cause: io::Error| BindError::Socket {
        path: path.to_owned(),
        cause,
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(folder);
        made.map_err(failed)?;
    }
    check_free(path).map_err(|what| BindError::InTheWay {
        path: path.to_owned(),
        what,
    })?;
    listen_unix(path).map_err(failed)
}

fn check_free(path: &Path) -> Result<(), &'static str> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err("something else is there");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(_) | Err(_) => Err("another process may be listening on it"),
    }
}

/// Nothing can connect before `listen`, so there is no moment with the wrong mode; and the old socket keeps its
/// name until the new one takes it.
fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    if let Err(error) = fs::remove_file(new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind_fd(&socket, &SocketAddrUnix::new(new)?)?;
    fs::set_permissions(new, fs::Permissions::from_mode(0o660))?;
    fs::rename(new, path)?;
    listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/admin.sock");
        let first = bind_unix(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let error = bind_unix(&path).unwrap_err();
        assert!(matches!(error, BindError::InTheWay { .. }), "{error}");
        drop(first);
        let second = bind_unix(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(second);
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[tokio::test]
    async fn what_was_handed_over_takes_the_place_of_its_own_kind() {
        let folder = tempfile::tempdir().unwrap();
        let config = config::Admin {
            socket: folder.path().join("admin.sock"),
            address: Some(([127, 0, 0, 1], 0).into()),
            token: None,
        };
        let is_unix = |socket: &Socket| matches!(socket, Socket::Unix(_));
        for handed in ["", "unix", "tcp"] {
            let mut sockets = match handed {
                "unix" => vec![Socket::Unix(bind_unix(&folder.path().join("s")).unwrap())],
                "tcp" => vec![Socket::Tcp(TcpListener::bind("127.0.0.1:0").await.unwrap())],
                _ => Vec::new(),
            };
            bind_rest(&config, &mut sockets).await.unwrap();
            let unix = sockets.iter().filter(|socket| is_unix(socket)).count();
            assert_eq!((unix, sockets.len()), (1, 2), "{handed}");
            assert_eq!(config.socket.exists(), handed != "unix");
            let _ = fs::remove_file(&config.socket);
        }
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        assert!(bind_unix(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
