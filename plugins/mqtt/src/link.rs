//! A connection to the server, which publishes and waits to be acknowledged.

use std::{
    future::{Future as _, poll_fn},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::maybe_done;
use profilesync_target::Mask;
use rumqttc::{
    AsyncClient, ConnectionError, EventLoop, MqttOptions, PubAckReason, PublishNoticeError,
    PublishOptions, PublishResult, QoS, StateError, mqttbytes,
};
use tokio::time::Instant;

use crate::{BATCH, message::Message};

/// Seconds between signs of life. Nothing is sent while the target rests, so a connection is not used again after so
/// long: the server ends it after one and a half times that.
const KEEP_ALIVE: u16 = 60;

/// Where the server is and who asks.
pub(crate) struct Server {
    /// Host and port, as messages name it.
    pub(crate) name: String,
    /// With the credentials.
    pub(crate) options: MqttOptions,
    /// What the server's words may not bring back.
    pub(crate) mask: Mask,
}

/// What kept messages from being acknowledged.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is no connection, or it ended.
    Broken(Box<ConnectionError>),
    /// The server refused a message with a code that the client knows nothing of; it does not tell which message.
    Refused(u8),
    /// The client took a message back.
    Withdrawn(PublishNoticeError),
    /// The connection rested for too long.
    Stale,
}

impl Trouble {
    /// What ended a connection while messages waited to be acknowledged. The client takes a code that it does not know
    /// for one of a refused connection, whatever it answers.
    fn of_publishing(error: ConnectionError) -> Self {
        match error {
            ConnectionError::MqttState(StateError::Deserialization(
                mqttbytes::Error::InvalidConnectReturnCode(code),
            )) => Self::Refused(code),
            error => error.into(),
        }
    }
}

impl From<ConnectionError> for Trouble {
    fn from(error: ConnectionError) -> Self {
        Self::Broken(Box::new(error))
    }
}

/// What came of messages.
#[derive(Default)]
pub(crate) struct Published {
    /// What the server said of each; `None` of those that it did not get to.
    pub(crate) reasons: Vec<Option<PubAckReason>>,
    /// Why it did not.
    pub(crate) trouble: Option<Trouble>,
}

/// One connection. Dropping it ends it.
pub(crate) struct Link {
    client: AsyncClient,
    events: EventLoop,
    used: Instant,
}

impl Link {
    /// Connects, with this behind the client id.
    pub(crate) async fn connect(server: &Server, suffix: &str) -> Result<Self, Trouble> {
        let mut options = server.options.clone();
        options.set_client_id(options.client_id() + suffix);
        options.set_keep_alive(KEEP_ALIVE);
        let (client, mut events) = AsyncClient::builder(options).capacity(2 * BATCH).build();
        // The first event is the server's consent; without it there is an error.
        events.poll().await?;
        Ok(Self {
            client,
            events,
            used: Instant::now(),
        })
    }

    /// Publishes all messages, and waits for the server to say what it did with each.
    pub(crate) async fn publish(&mut self, messages: &[&Message]) -> Published {
        if self.used.elapsed() > Duration::from_secs(KEEP_ALIVE.into()) {
            return Published {
                reasons: vec![None; messages.len()],
                trouble: Some(Trouble::Stale),
            };
        }
        let client = &self.client;
        let mut waiting: Vec<_> = messages
            .iter()
            .map(|message| Box::pin(maybe_done(acknowledged(client, message))))
            .collect();
        // Those that the server has answered stay answered when the connection ends before the others.
        let mut poll_all = |context: &mut Context<'_>| {
            let pending = waiting
                .iter_mut()
                .filter_map(|message| message.as_mut().poll(context).is_pending().then_some(()));
            pending.count()
        };
        let all = poll_fn(|context| match poll_all(context) {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        });
        let mut trouble = tokio::select! {
            () = all => None,
            error = broken(&mut self.events) => Some(Trouble::of_publishing(error)),
        };
        poll_fn(|context| Poll::Ready(poll_all(context))).await;
        self.used = Instant::now();
        let reasons = waiting
            .iter_mut()
            .map(|message| match message.as_mut().take_output() {
                Some(Ok(reason)) => Some(reason),
                Some(Err(error)) => {
                    trouble.get_or_insert(Trouble::Withdrawn(error));
                    None
                }
                None => None,
            })
            .collect();
        Published { reasons, trouble }
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) -> Result<(), Trouble> {
        if self.client.disconnect().await.is_err() {
            return Ok(());
        }
        match broken(&mut self.events).await {
            ConnectionError::RequestsDone => Ok(()),
            error => Err(error.into()),
        }
    }
}

async fn acknowledged(
    client: &AsyncClient,
    message: &Message,
) -> Result<PubAckReason, PublishNoticeError> {
    let options = PublishOptions::new(QoS::AtLeastOnce).retained();
    let notice = client
        .publish_tracked(message.topic.clone(), message.payload.clone(), options)
        .await
        .map_err(|_| PublishNoticeError::Recv)?;
    match notice.wait_async().await? {
        PublishResult::Qos1(answer) => Ok(answer.reason),
        _ => unreachable!("it was published with QoS 1"),
    }
}

/// Does the connection's work until it ends. The client would connect again by itself; that is never asked of it.
async fn broken(events: &mut EventLoop) -> ConnectionError {
    loop {
        match events.poll().await {
            Ok(_) => (),
            Err(error) => return error,
        }
    }
}
