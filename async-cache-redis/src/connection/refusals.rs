//! The reasons why there is no connection, and their remedies.

use deadpool::managed::{HookError, PoolError, TimeoutType};
use redis::{ErrorKind as Redis, RedisError};

use super::cause::{Cause, Secrets};
use super::failure::Outage;
use super::rights;
use crate::reply::server_error_code;

const REPLICA: &str = "the server is a replica: connect to its master";
pub(super) const SPEAKS_TLS: &str = if cfg!(feature = "tls") {
    "the server speaks TLS on this port: write `rediss://`"
} else {
    "the server speaks TLS on this port: write `rediss://`, and enable the feature `tls` of async-cache-rs"
};
#[cfg(feature = "tls")]
pub(super) const SPEAKS_NO_TLS: &str =
    "the server does not speak TLS on this port: write `redis://`, or connect to its port for TLS";
/// At an address that a cluster has told.
#[cfg(all(feature = "tls", feature = "cluster"))]
pub(super) const TOLD_WITHOUT_TLS: &str =
    "the cluster tells this port, which does not speak TLS: set `tls-cluster yes` on its nodes";
pub(super) const NOT_REDIS: &str = "what answers there does not speak Redis";

/// Whether an address is known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    /// No connection has been made there.
    Unproven,
    /// A connection has been made there.
    Proven,
}

/// Why there is no connection.
pub(crate) enum Refusal {
    /// The attempt failed.
    Error(RedisError),
    /// Time ran out.
    Timeout,
    /// The pool has none to give.
    Pool(String),
    /// The caller's function gave no credentials.
    Credentials(Cause),
    /// The server closed the connection; what may be the reason.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "made by TLS only"))]
    Closed(&'static str),
    /// It leads to a replica.
    Replica,
    /// No server says that it is the master, of those that Sentinels name or that are listed. A failover may be under
    /// way.
    NoMaster(String),
    /// The roles of the listed servers do not fit: none is the master, or several are.
    Roles(String),
    /// It leads to a server that cannot be used, or not by this user.
    Server(String),
}

impl Refusal {
    /// A command that is needed failed. `right` is its name in an ACL.
    pub(crate) fn of_command(right: &str, error: RedisError) -> Self {
        rights::no_command(right, &error).map_or(Self::Error(error), Self::Server)
    }

    /// The remedy, if nothing but a change of settings helps, here or at the server.
    pub(super) fn remedy(&self) -> Option<String> {
        let error = match self {
            Self::Server(why) | Self::Roles(why) => return Some(why.clone()),
            Self::Replica => return Some(REPLICA.to_owned()),
            Self::Error(error) => error,
            Self::Timeout | Self::Pool(_) | Self::Credentials(_) | Self::Closed(_) | Self::NoMaster(_) => {
                return None;
            }
        };
        let text = error.to_string();
        if text.to_ascii_lowercase().contains("hello")
            && let Some(why) = rights::no_command("hello", error)
        {
            return Some(format!("{why}; RESP3, which the settings ask for, is begun with it"));
        }
        let known = match (error.kind(), server_error_code(error).as_str()) {
            (_, "NOAUTH") => {
                "the server needs a password, and none was given. In a URL, a password without a user name is written \
                 `redis://:password@host`"
            }
            // The client does not keep the server's text, which would tell the two apart.
            (Redis::AuthenticationFailed, _) | (_, "WRONGPASS") => {
                "wrong user name or password, or one given where the server has none: leave it out then. In a URL, a \
                 password without a user name is written `redis://:password@host`"
            }
            _ if text.contains("refused to switch database") => {
                "it has no database of this number, or the user may not run SELECT (`+select`)"
            }
            (_, "DENIED") => {
                "it is in protected mode, and takes no clients from other machines: give it a password, or set \
                 `protected-mode no`"
            }
            (Redis::RESP3NotSupported, _) | (_, "NOPROTO") => {
                "it does not know RESP3, which the settings ask for: is this Redis 6.0 or later?"
            }
            (Redis::InvalidClientConfig, _) => "the client cannot connect with these settings",
            (_, "NOPERM") => {
                "the user may not run what a client begins with (`+hello`, `+auth`, `+select`, `+ping`)"
            }
            _ => return None,
        };
        Some(known.to_owned())
    }

    /// The outage for a backend that goes on trying. It is lasting if `connect` would refuse the settings, or if
    /// the peer does not speak Redis, although that may also mend itself.
    ///
    /// At an address that was right before, some refusals are ordinary outages: see [`Self::passes`].
    pub(crate) fn outage(&self, secrets: &Secrets, address: Address) -> Outage {
        let cause = self.cause(secrets);
        let remedy = self.remedy().or_else(|| match self {
            Self::Error(error) if is_not_redis(error) => Some(NOT_REDIS.to_owned()),
            _ => None,
        });
        let lasting = remedy.is_some() && !(address == Address::Proven && self.passes());
        match remedy {
            Some(remedy) if !cause.says(&remedy) => {
                Outage::failed(Cause::ours(format!("{remedy} ({cause})")), lasting)
            }
            _ => Outage::failed(cause, lasting),
        }
    }

    /// Whether it passes without a change of settings, if the address is right. During a failover there may be a replica
    /// at it, or an old master that does not know yet that it was demoted. A peer that does not speak Redis may be a proxy
    /// whose server is away.
    fn passes(&self) -> bool {
        match self {
            Self::Replica | Self::Roles(_) => true,
            Self::Error(error) => is_not_redis(error),
            _ => false,
        }
    }

    /// The cause, as it is shown.
    pub(super) fn cause(&self, secrets: &Secrets) -> Cause {
        match self {
            Self::Error(error) => secrets.cause(error),
            Self::Timeout => Cause::ours("no connection in time"),
            Self::Replica => Cause::ours(REPLICA),
            Self::Server(why) | Self::Roles(why) => Cause::ours(why.as_str()),
            Self::NoMaster(why) => Cause::ours(format!("finding the master: {why}")),
            Self::Pool(why) => secrets.cause(why),
            Self::Credentials(why) => why.clone(),
            Self::Closed(hint) => Cause::ours(format!("the server closed the connection: {hint}")),
        }
    }
}

/// Whether the peer does not speak the protocol of Redis.
pub(super) fn is_not_redis(error: &RedisError) -> bool {
    matches!(error.kind(), Redis::Parse | Redis::UnexpectedReturnType)
}

impl From<RedisError> for Refusal {
    fn from(error: RedisError) -> Self {
        Self::Error(error)
    }
}

impl<E: Into<Refusal>> From<PoolError<E>> for Refusal {
    fn from(error: PoolError<E>) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => Self::Timeout,
            PoolError::Timeout(TimeoutType::Wait) => {
                Self::Pool("all of its connections are taken".to_owned())
            }
            PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
            PoolError::PostCreateHook(_) => Self::Pool("its hook has refused the connection".to_owned()),
            PoolError::Closed => Self::Pool("it is closed".to_owned()),
            PoolError::NoRuntimeSpecified => Self::Pool("it has deadlines, but no runtime is set".to_owned()),
        }
    }
}
