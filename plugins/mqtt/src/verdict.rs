//! What the server's answers mean for accounts.

use profilesync_target::Outcome;
use rumqttc::{ConnectionError, PubAckReason, PublishNoticeError, StateError, mqttbytes};

use crate::link::{Server, Trouble};

/// The message is larger than the server takes.
const PACKET_TOO_LARGE: u8 = 0x95;

/// The outcome of a message that the server has answered.
pub(crate) fn of_reason(server: &Server, topic: &str, reason: PubAckReason) -> Outcome {
    let refused = format!(
        "{} refused the message to {topic:?}: {reason:?}",
        server.name
    );
    match reason {
        PubAckReason::Success => Outcome::Delivered {
            answer: "acknowledged".into(),
        },
        PubAckReason::NoMatchingSubscribers => Outcome::Delivered {
            answer: "acknowledged; nobody subscribes".into(),
        },
        PubAckReason::TopicNameInvalid | PubAckReason::PayloadFormatInvalid => {
            Outcome::Rejected { reason: refused }
        }
        // Of this topic, or of all of ours: the answer does not tell.
        PubAckReason::NotAuthorized | PubAckReason::ImplementationSpecificError => {
            Outcome::Denied { reason: refused }
        }
        PubAckReason::UnspecifiedError
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded => fault(refused),
    }
}

/// Whether an answer is a refusal. Some servers, mosquitto 2.0 among them, hang up after one.
pub(crate) fn is_refusal(reason: PubAckReason) -> bool {
    !matches!(
        reason,
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers
    )
}

/// The outcome of a message whose connection ended because another was refused.
pub(crate) fn of_bystander(server: &Server) -> Outcome {
    Outcome::Retry {
        reason: format!("{} refused another message and hung up", server.name),
        after: None,
    }
}

/// The outcome of all messages of a call that failed.
pub(crate) fn of_trouble(server: &Server, trouble: &Trouble) -> Outcome {
    let name = &server.name;
    match trouble {
        Trouble::Broken(error) => of_error(server, error),
        // mosquitto's `message_size_limit`, of which it does not tell when it is connected to.
        Trouble::Refused(PACKET_TOO_LARGE) => Outcome::Rejected {
            reason: format!("a message is larger than {name} takes"),
        },
        Trouble::Refused(code) => Outcome::Denied {
            reason: format!("{name} refused a message with the code {code:#04x}"),
        },
        Trouble::Withdrawn(PublishNoticeError::RetainNotSupported) => {
            fault(format!("{name} keeps no retained messages"))
        }
        Trouble::Withdrawn(error) => fault(format!("the connection to {name} failed: {error}")),
        Trouble::Stale => fault(format!("the connection to {name} rested for too long")),
    }
}

fn of_error(server: &Server, error: &ConnectionError) -> Outcome {
    let name = &server.name;
    match error {
        ConnectionError::MqttState(StateError::Deserialization(
            mqttbytes::Error::OutgoingPacketTooLarge { pkt_size, max },
        )) => Outcome::Rejected {
            reason: format!("the message is {pkt_size} bytes long, and {name} takes {max}"),
        },
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => {
            fault(format!("{name} refuses the connection: {code:?}"))
        }
        ConnectionError::Io(error) => fault(format!("no connection to {name}: {error}")),
        // The server's own words are in some of them.
        error => {
            let error = server.mask.hide(&error.to_string());
            fault(format!("the connection to {name} failed: {error}"))
        }
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
    use profilesync_target::{Mask, Outcome};
    use rumqttc::{Broker, ConnectionError, DisconnectReasonCode, MqttOptions, StateError};

    use super::of_trouble;
    use crate::link::{Server, Trouble};

    fn server() -> Server {
        let mut mask = Mask::default();
        mask.add("hunter2");
        Server {
            name: "host:1883".into(),
            options: MqttOptions::new("id", Broker::tcp("host", 1883)),
            mask,
        }
    }

    #[test]
    fn the_password_is_hidden_where_the_server_says_it() {
        let error = ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::NotAuthorized,
            reason_string: Some("no user of hunter2".into()),
        });
        let outcome = of_trouble(&server(), &error.into());
        let text = outcome.text();
        assert!(text.contains("no user of ***"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_code_that_the_client_does_not_know_is_no_fault() {
        let server = server();
        let outcome = |code| of_trouble(&server, &Trouble::Refused(code));
        let reason = "a message is larger than host:1883 takes".into();
        assert_eq!(outcome(0x95), Outcome::Rejected { reason });
        let reason = "host:1883 refused a message with the code 0x9b".into();
        assert_eq!(outcome(0x9b), Outcome::Denied { reason });
    }
}
