//! The program `async-cache`, run on real servers.

#[path = "../../../integration-tests/tests/redis_backend/certificates.rs"]
#[allow(dead_code, reason = "shared with the tests of the Redis tier")]
mod certificates;
mod change;
mod cluster;
mod doctor;
mod inspect;
mod rig;
mod scripts;
mod stats;
mod tls;
mod watch;
mod wrong;
