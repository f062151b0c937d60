//! What the server's answers mean for accounts.

use profilesync_target::Outcome;
use rumqttc::{ConnectionError, PubAckReason, PublishNoticeError, StateError, mqttbytes};

use crate::link::{Server, Trouble};

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
        Trouble::Broken(error) => of_error(name, error),
        Trouble::Withdrawn(PublishNoticeError::RetainNotSupported) => {
            fault(format!("{name} keeps no retained messages"))
        }
        Trouble::Withdrawn(error) => fault(format!("the connection to {name} failed: {error}")),
        Trouble::Stale => fault(format!("the connection to {name} rested for too long")),
    }
}

fn of_error(name: &str, error: &ConnectionError) -> Outcome {
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
        error => fault(format!("the connection to {name} failed: {error}")),
    }
}

fn fault(reason: String) -> Outcome {
    Outcome::Fault {
        reason,
        after: None,
    }
}
