//! The connections to the server: opened when they are needed, kept between deliveries, and let go of after any trouble.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use profilesync_target::Mask;
use redis::{
    AsyncConnectionConfig, Client, Pipeline, RedisError, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};

use crate::answer::Place;

/// Opening a connection that takes longer is a fault of the target; the time limit of a delivery may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server, and the connections to it that nothing is using.
pub(crate) struct Link {
    client: Client,
    idle: Mutex<Vec<MultiplexedConnection>>,
    place: Place,
}

impl Link {
    pub(crate) fn new(client: Client) -> Self {
        let info = client.get_connection_info();
        let mut mask = Mask::default();
        if let Some(password) = info.redis_settings().password() {
            mask.add(password);
        }
        Self {
            place: Place {
                name: info.addr().to_string(),
                mask,
            },
            client,
            idle: Mutex::default(),
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Sends commands that may be sent twice; one answer for each, an error being an answer too.
    ///
    /// A connection is out of the pool while it is used: what is dropped here takes it along, for its answers are
    /// still to come.
    pub(crate) async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, String> {
        if let Some(mut connection) = self.take() {
            match connection
                .send_packed_commands(commands, 0, commands.len())
                .await
            {
                Ok(answers) => return Ok(self.keep(connection, answers)),
                // The server went away since, and all idle connections with it; it may be back.
                Err(_) => self.clear(),
            }
        }
        let mut connection = self.open().await?;
        let answers = connection
            .send_packed_commands(commands, 0, commands.len())
            .await
            .map_err(|error| format!("{} did not answer: {}", self.place, self.told(&error)))?;
        Ok(self.keep(connection, answers))
    }

    async fn open(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // A delivery has its own time limit.
            .set_response_timeout(None);
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| format!("cannot connect to {}: {}", self.place, self.told(&error)))
    }

    /// Keeps the connection for the next delivery, unless the server is unwell: then the next one is to find out anew
    /// which server is behind the address, and to log in again.
    fn keep(&self, connection: MultiplexedConnection, answers: Vec<Value>) -> Vec<Value> {
        let well = answers.iter().all(|answer| match answer {
            Value::ServerError(error) => error.kind() == Some(ServerErrorKind::NoScript),
            _ => true,
        });
        if well {
            self.lock().push(connection);
        }
        answers
    }

    fn take(&self) -> Option<MultiplexedConnection> {
        self.lock().pop()
    }

    /// Closes all connections that nothing is using.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// An error in the server's words where it has some.
    fn told(&self, error: &RedisError) -> String {
        let words = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            (None, Some(detail)) => detail.to_owned(),
            _ => error.to_string(),
        };
        self.place.mask.hide(&words)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<MultiplexedConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use redis::{Client, ErrorKind, RedisError};

    use super::Link;

    #[test]
    fn the_password_is_hidden_where_the_server_says_it() {
        let link = Link::new(Client::open("redis://:hunter2@host").unwrap());
        let error = RedisError::from((ErrorKind::Io, "refused", "no user of hunter2".to_owned()));
        assert_eq!(link.told(&error), "no user of ***");
    }
}
