//! A connection to the server with one channel, which publishes and waits for the confirms.

use std::{
    collections::HashSet,
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd as _,
    sync::{Mutex, PoisonError},
};

use futures_util::{StreamExt as _, future::join_all, stream::BoxStream};
use lapin::{
    AsyncTcpStream, Channel, Connection, ConnectionProperties, Error, ErrorKind, Event,
    ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    tcp::RustlsConnector,
    types::FieldTable,
    uri::AMQPUri,
};
use profilesync_target::Mask;

use crate::message::{Form, Message};

/// Where the server is and who asks.
pub(crate) struct Server {
    /// Host and port, as messages name it.
    pub(crate) name: String,
    /// With the credentials.
    pub(crate) uri: AMQPUri,
    /// What the server's words may not bring back.
    pub(crate) mask: Mask,
    pub(crate) tls: Option<RustlsConnector>,
    /// What the server lists the connection as.
    pub(crate) title: String,
}

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The server is responsible for it now.
    Confirmed,
    /// No queue took it.
    Returned,
    /// The server could not take it.
    Refused,
}

/// What kept messages from having a fate.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is no connection.
    Unreachable(io::Error),
    /// The client or the server ended it.
    Broken(Error),
    /// The server takes no messages: its memory or disk is short.
    Blocked(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

/// Ends the connection at once when dropped, whatever state it is in. The client's own end is a handshake, which it
/// waits for on a thread for as long as a stopped or blocked server is silent.
struct Hangup(TcpStream);

impl Drop for Hangup {
    fn drop(&mut self) {
        // It fails when the connection is at its end already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// One connection with one channel in confirm mode. Dropping it ends it.
pub(crate) struct Link {
    _hangup: Hangup,
    channel: Channel,
    events: BoxStream<'static, Event>,
    connection: Connection,
}

impl Link {
    pub(crate) async fn connect(server: &Server) -> Result<Self, Trouble> {
        let authority = &server.uri.authority;
        let addresses: Vec<_> = tokio::net::lookup_host((authority.host.as_str(), authority.port))
            .await?
            .collect();
        let runtime = lapin::runtime::default_runtime()?;
        let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
        let AsyncTcpStream::Plain(plain) = &stream else {
            unreachable!("a new stream is plain");
        };
        let socket = plain.get_ref();
        socket.set_nodelay(true)?;
        let hangup = Hangup(socket.as_fd().try_clone_to_owned()?.into());
        let stream = match &server.tls {
            Some(connector) => stream.into_rustls(connector, &authority.host).await?,
            None => stream,
        };
        let stream = Mutex::new(Some(stream));
        let connection = Connection::connector(
            server.uri.clone(),
            runtime,
            async move |_, _| {
                let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
                stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted).into())
            },
            ConnectionProperties::default().with_connection_name(server.title.as_str().into()),
        )
        .await?;
        let events = connection.events_listener().boxed();
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            _hangup: hangup,
            channel,
            events,
            connection,
        })
    }

    /// Whether it can be used, as far as is known without asking.
    pub(crate) fn is_open(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Publishes all messages, then waits for their confirms. Ends early when the server blocks publishers.
    pub(crate) async fn publish(
        &mut self,
        form: &Form,
        messages: &[&Message],
    ) -> Result<Vec<Fate>, Trouble> {
        let status = self.connection.status().clone();
        let events = &mut self.events;
        let blocked = async {
            while let Some(event) = events.next().await {
                // Earlier events may be past.
                if let Event::ConnectionBlocked(reason) = event
                    && status.blocked()
                {
                    return reason;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            fates = confirmed(&self.channel, form, messages) => fates.map_err(Trouble::Broken),
            reason = blocked => Err(Trouble::Blocked(reason)),
        }
    }

    /// Whether there is an exchange of this name; the nameless one always is.
    pub(crate) async fn find(&mut self, exchange: &str) -> Result<(), Trouble> {
        if exchange.is_empty() {
            return Ok(());
        }
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        self.channel
            .exchange_declare(
                exchange.into(),
                ExchangeKind::Topic,
                passive,
                FieldTable::default(),
            )
            .await
            .map_err(Trouble::Broken)
    }

    pub(crate) async fn close(self) {
        // The server may be gone; then there is nothing to say goodbye to.
        let _ = self.connection.close(200, "OK".into()).await;
    }
}

async fn confirmed(
    channel: &Channel,
    form: &Form,
    messages: &[&Message],
) -> Result<Vec<Fate>, Error> {
    let options = BasicPublishOptions {
        mandatory: form.mandatory,
        immediate: false,
    };
    // Each waits until it is written; all at once, they are written together, and in their order.
    let sending = join_all(messages.iter().map(|message| {
        channel.basic_publish(
            form.exchange.as_str().into(),
            message.key.as_str().into(),
            options,
            &message.body,
            message.properties.clone(),
        )
    }));
    let mut failure = None;
    let mut refused = HashSet::new();
    let mut returned = HashSet::new();
    for (message, sent) in messages.iter().zip(sending.await) {
        let confirmation = match sent {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirmation {
            Ok(confirmation) => {
                if confirmation.is_nack() {
                    refused.insert(message.id.as_str());
                }
                // The client hands out returned messages in the order they come, but confirms of several at once
                // in any: only the message itself says which it is.
                if let Some(message) = confirmation.take_message()
                    && let Some(id) = message.properties.message_id()
                {
                    returned.insert(id.as_str().to_owned());
                }
            }
            // The server's own words tell more than what followed from them.
            Err(error) if failure.is_none() || is_telling(&error) => failure = Some(error),
            Err(_) => (),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let fates = messages.iter().map(|message| {
        if returned.contains(&message.id) {
            Fate::Returned
        } else if refused.contains(message.id.as_str()) {
            Fate::Refused
        } else {
            Fate::Confirmed
        }
    });
    Ok(fates.collect())
}

fn is_telling(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(_))
}
