//! What an error of the producer means: whose fault it is, and a sentence for the operator.

use std::time::Duration;

use profilesync_target::Outcome;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This, for sure.
    Clear(Outcome),
    /// The request was refused for the sake of one of its records, and that may be another one.
    Shared(String),
}

impl Verdict {
    /// The outcome, for a record that was sent alone.
    pub(crate) fn alone(self) -> Outcome {
        match self {
            Self::Clear(outcome) => outcome,
            Self::Shared(reason) => Outcome::Rejected { reason },
        }
    }
}

/// `local` errors are told before a request was made, so they are about this record alone. `last` is librdkafka's
/// last complaint about brokers.
pub(crate) fn judge(
    topic: &str,
    error: &KafkaError,
    local: bool,
    patience: Duration,
    last: &str,
) -> Verdict {
    use RDKafkaErrorCode as Code;

    let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
    let last = match last {
        "" => String::new(),
        last => format!(": {last}"),
    };
    let reason = match code {
        Code::MessageTimedOut | Code::TimedOutQueue => format!(
            "no broker acknowledged it in {:.1} s{last}",
            patience.as_secs_f32()
        ),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            format!("the topic {topic} does not exist: create it ({code})")
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            format!(
                "the record is too large for the topic {topic} ({code}): raise its max.message.bytes and, in \
                 `properties`, message.max.bytes"
            )
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => format!(
            "writing to the topic {topic} is not allowed ({code}): it takes Write on the topic and, with brokers \
             before 3.0, IdempotentWrite on the cluster"
        ),
        Code::QueueFull => "the producer's queue is full".into(),
        Code::PurgeQueue | Code::PurgeInflight => "the producer was closed".into(),
        _ => format!("the topic {topic} did not take it: {code}{last}"),
    };
    match code {
        Code::MessageSizeTooLarge if local => Verdict::Clear(Outcome::Rejected { reason }),
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp => Verdict::Shared(reason),
        Code::QueueFull | Code::PurgeQueue | Code::PurgeInflight | Code::InvalidMessage => {
            Verdict::Clear(Outcome::Retry {
                reason,
                after: None,
            })
        }
        _ => Verdict::Clear(Outcome::Fault {
            reason,
            after: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

    use super::judge;

    #[test]
    fn errors_are_sorted() {
        for (code, local, wanted) in [
            (Code::MessageSizeTooLarge, true, "Clear(Rejected"),
            (Code::MessageSizeTooLarge, false, "Shared"),
            (Code::InvalidRecord, false, "Shared"),
            (Code::MessageBatchTooLarge, false, "Shared"),
            (Code::QueueFull, true, "Clear(Retry"),
            (Code::InvalidMessage, false, "Clear(Retry"),
            (Code::PurgeQueue, false, "Clear(Retry"),
            (Code::UnknownTopic, true, "Clear(Fault"),
            (Code::UnknownTopicOrPartition, false, "Clear(Fault"),
            (Code::UnknownPartition, true, "Clear(Fault"),
            (Code::TopicAuthorizationFailed, false, "Clear(Fault"),
            (Code::ClusterAuthorizationFailed, false, "Clear(Fault"),
            (Code::MessageTimedOut, false, "Clear(Fault"),
            (Code::NotEnoughReplicas, false, "Clear(Fault"),
            (Code::BrokerTransportFailure, false, "Clear(Fault"),
            (Code::Fatal, false, "Clear(Fault"),
            (Code::PolicyViolation, false, "Clear(Fault"),
        ] {
            let error = KafkaError::MessageProduction(code);
            let verdict = judge("t", &error, local, Duration::from_secs(3), "refused");
            let is = format!("{verdict:?}");
            assert!(is.starts_with(wanted), "{code}: {is}");
        }
        let error = KafkaError::MessageProduction(Code::MessageTimedOut);
        let verdict = judge("t", &error, false, Duration::from_millis(7500), "refused").alone();
        assert_eq!(
            verdict.text(),
            "no broker acknowledged it in 7.5 s: refused"
        );
    }
}
