//! `RedisBackend` against a real `redis-server`, through the raw `Backend` and `Region`.

mod bus;
mod certificates;
mod config;
mod conform;
mod connect;
mod credentials;
mod deadlines;
mod differential;
mod fence;
mod foreign;
mod forgotten;
mod gather;
mod lazy;
mod logs;
mod outage;
mod resp2;
mod rig;
mod rights;
mod runtimes;
mod scripts;
mod sentinel;
mod settings;
mod strange;
mod tag_table;
mod tls;
mod whole;
