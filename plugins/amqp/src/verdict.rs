//! What the server's answers mean for accounts.

use lapin::{Error, ErrorKind};
use profilesync_target::{Mask, Outcome};

use crate::{
    link::{Fate, Server, Trouble},
    message::Message,
};

/// AMQP's reply codes.
const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;

/// The outcome of a message that has a fate.
pub(crate) fn of_fate(server: &Server, exchange: &str, message: &Message, fate: Fate) -> Outcome {
    let name = &server.name;
    let key = &message.key;
    let exchange = match exchange {
        "" => "the default exchange",
        named => named,
    };
    match fate {
        Fate::Confirmed => Outcome::Delivered {
            answer: "confirmed".into(),
        },
        Fate::Returned => fault(format!(
            "{name} returned the message: no queue is bound to {exchange} for the routing key {key:?}; bind one, or set \
             `mandatory = false`"
        )),
        // A full queue that rejects, or an error inside the server: no account is guilty.
        Fate::Refused => fault(format!(
            "{name} refused the message to {exchange} with the routing key {key:?} (basic.nack): a queue may be full"
        )),
    }
}

/// The outcome of all messages of a call that failed.
pub(crate) fn of_trouble(server: &Server, trouble: &Trouble) -> Outcome {
    let Server { name, mask, .. } = server;
    match trouble {
        Trouble::Unreachable(error) => fault(format!("cannot connect to {name}: {error}")),
        Trouble::Blocked(reason) => fault(format!(
            "{name} takes no messages at the moment (connection.blocked): {}",
            mask.hide(reason)
        )),
        Trouble::Broken(error) => of_error(name, mask, error),
    }
}

fn of_error(name: &str, mask: &Mask, error: &Error) -> Outcome {
    let ErrorKind::ProtocolError(closed) = error.kind() else {
        // A code that the client does not know comes with the server's words here.
        let error = mask.hide(&error.to_string());
        return fault(format!("the connection to {name} failed: {error}"));
    };
    let text = closed.get_message().as_str();
    let reason = format!("{name} answered {}", mask.hide(text));
    match closed.get_id() {
        PRECONDITION_FAILED if text.contains("is larger than") => Outcome::Rejected { reason },
        // Permissions by routing key: it may be of this account alone.
        ACCESS_REFUSED if text.contains("access to topic") => Outcome::Denied { reason },
        _ => fault(reason),
    }
}

fn fault(reason: String) -> Outcome {
    Outcome::Fault {
        reason,
        after: None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use lapin::{Error, ErrorKind, protocol::AMQPError, uri::AMQPUri};
    use profilesync_target::{Mask, Outcome};

    use super::of_trouble;
    use crate::link::{Server, Trouble};

    fn outcome(trouble: &Trouble) -> Outcome {
        let mut mask = Mask::default();
        mask.add("hunter2");
        let server = Server {
            name: "mq:5672".into(),
            uri: AMQPUri::default(),
            mask,
            tls: None,
            title: String::new(),
        };
        of_trouble(&server, trouble)
    }

    fn closed(code: u16, text: &str) -> Trouble {
        let error = AMQPError::from_id(code, text.into()).unwrap();
        Trouble::Broken(ErrorKind::ProtocolError(error).into())
    }

    fn judge(code: u16, text: &str) -> Outcome {
        outcome(&closed(code, text))
    }

    #[test]
    fn the_password_is_hidden_where_the_server_says_it() {
        for trouble in [
            closed(403, "ACCESS_REFUSED - no user of hunter2"),
            Trouble::Blocked("no memory for hunter2".into()),
            Trouble::Broken(Error::from(io::Error::other("Close { \"hunter2\" }"))),
        ] {
            let outcome = outcome(&trouble);
            let text = outcome.text();
            assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn only_what_is_about_one_message_can_be_an_accounts_fault() {
        let rejected = judge(
            406,
            "PRECONDITION_FAILED - message size 9 is larger than configured max size 8",
        );
        assert!(matches!(rejected, Outcome::Rejected { .. }), "{rejected:?}");
        let denied = judge(
            403,
            "ACCESS_REFUSED - access to topic 'a' in exchange 'x' in vhost '/' refused for user 'u'",
        );
        assert!(matches!(denied, Outcome::Denied { .. }), "{denied:?}");
        for (code, text) in [
            (
                403,
                "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'u'",
            ),
            (404, "NOT_FOUND - no exchange 'x' in vhost '/'"),
            (406, "PRECONDITION_FAILED - inequivalent arg"),
            (320, "CONNECTION_FORCED - broker forced connection closure"),
            (530, "NOT_ALLOWED - vhost / not found"),
            (541, "INTERNAL_ERROR"),
        ] {
            let outcome = judge(code, text);
            assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
            assert!(outcome.text().contains(text), "{outcome:?}");
        }
    }
}
