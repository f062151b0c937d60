//! The `amqp` output: messages through an AMQP 0-9-1 exchange.
