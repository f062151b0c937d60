//! What the server's answers mean for accounts.

use lapin::{Error, ErrorKind};
use profilesync_target::Outcome;

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
    let name = &server.name;
    match trouble {
        Trouble::Unreachable(error) => fault(format!("cannot connect to {name}: {error}")),
        Trouble::Blocked(reason) => fault(format!(
            "{name} takes no messages at the moment (connection.blocked): {reason}"
        )),
        Trouble::Broken(error) => of_error(name, error),
    }
}

fn of_error(name: &str, error: &Error) -> Outcome {
    let ErrorKind::ProtocolError(closed) = error.kind() else {
        return fault(format!("the connection to {name} failed: {error}"));
    };
    let text = closed.get_message().as_str();
    let reason = format!("{name} answered {text}");
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
    use lapin::{Error, ErrorKind, protocol::AMQPError};
    use profilesync_target::Outcome;

    use super::of_error;

    fn judge(code: u16, text: &str) -> Outcome {
        let error = AMQPError::from_id(code, text.into()).unwrap();
        of_error("mq:5672", &Error::from(ErrorKind::ProtocolError(error)))
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
