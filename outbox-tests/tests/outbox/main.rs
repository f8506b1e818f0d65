//! The promises of the outbox, on real databases.

mod promise;
