//! Calls of a script that the server has forgotten.

use redis::aio::MultiplexedConnection;
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
    from_redis_value,
};

use crate::lua::Script;
use crate::reply::server_error_text;

/// How often in a row a forgotten script is loaded without any call being executed.
const IN_VAIN: u32 = 16;
/// The round of repetitions in which every call brings the text of the script.
const BY_TEXT: u32 = 1;

/// Calls of one script.
#[derive(Clone, Copy)]
pub(crate) struct Calls<'a> {
    pub(crate) script: &'a Script,
    pub(crate) calls: &'a [Cmd],
    pub(crate) again: Again,
}

/// Which calls of a pipeline are sent again if the server did not know the script of some of them. Another client may
/// have loaded it meanwhile, so that later calls were executed although earlier ones were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Those that were not executed: for fills. A fill that is executed twice finds its lease gone, and would be reported
    /// as refused although its value is stored. The order does not count, because each fill has a key of its own.
    Forgotten,
    /// Everything from the first call that was not executed: for changes, because their order counts.
    ///   1. a batch puts `k = a`, then `k = b`
    ///   2. another client's SCRIPT FLUSH and SCRIPT LOAD leave the first unknown, the second not
    ///   3. sending only the first again would leave `k = a`
    ///
    /// A change that is executed twice is as good as one that is executed later: its caller still waits. The other
    /// operations may be executed twice, too. An acquire is granted once, because its token is the same. Reading,
    /// renewing and releasing twice have the effect of once.
    FromFirst,
}

impl Again {
    fn places<T>(self, answers: &[RedisResult<T>]) -> Vec<usize> {
        let mut unknown =
            answers.iter().enumerate().filter(|(_, answer)| answer.as_ref().is_err_and(forgotten));
        match self {
            Self::Forgotten => unknown.map(|(place, _)| place).collect(),
            Self::FromFirst => {
                unknown.next().map_or_else(Vec::new, |(first, _)| (first..answers.len()).collect())
            }
        }
    }
}

/// Repeats calls of a script that the server has forgotten, until it has executed all of them.
///
/// SCRIPT LOAD and the calls go in one pipeline. If they were sent one after the other, even rare flushes would become
/// errors:
///   1. a SCRIPT FLUSH comes while nobody runs the script
///   2. many callers find out at once, and each sends SCRIPT LOAD
///   3. the next SCRIPT FLUSH comes between their loads and their calls
///
/// The server reads a long pipeline in parts (Redis 6: of 16 KB), and serves other clients in between:
///   1. it executes SCRIPT LOAD, and has read only the beginning of the first call
///   2. another client's SCRIPT FLUSH is executed
///   3. the server reads the rest of the call, and does not know its script
///
/// So there is one round in which every call brings the text (EVAL). If the user may not run EVAL, the script is loaded
/// again and again.
pub(super) async fn repeat<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    calls: Calls<'_>,
    answers: &mut [RedisResult<T>],
) -> RedisResult<()> {
    let (mut left, mut in_vain) = (usize::MAX, 0);
    for round in 0.. {
        let places = calls.again.places(answers);
        in_vain = if places.len() < left { 0 } else { in_vain + 1 };
        left = places.len();
        if left == 0 || in_vain == IN_VAIN {
            break;
        }
        let again = places.iter().map(|place| &calls.calls[*place]);
        let fresh = match round {
            BY_TEXT => run_by_text(connection, calls.script, again).await?,
            _ => load_and_run(connection, calls.script, again).await?,
        };
        for (place, answer) in places.into_iter().zip(fresh) {
            answers[place] = answer.and_then(|value| Ok(from_redis_value(value)?));
        }
    }
    Ok(())
}

async fn load_and_run(
    connection: &mut MultiplexedConnection,
    script: &Script,
    calls: impl Iterator<Item = &Cmd>,
) -> RedisResult<Vec<RedisResult<Value>>> {
    let mut pipeline = Pipeline::new();
    pipeline.add_command(script.load());
    for call in calls {
        pipeline.add_command(call.clone());
    }
    pipeline.ignore_errors();
    let mut answers: Vec<RedisResult<Value>> = pipeline.query_async(connection).await?;
    if !answers.is_empty() {
        // The user may have lost the right to load scripts.
        answers.remove(0)?;
    }
    Ok(answers)
}

/// Runs calls by EVAL. Those that are refused, because the user may not run EVAL or because it is switched off, are still
/// to be repeated.
async fn run_by_text(
    connection: &mut MultiplexedConnection,
    script: &Script,
    calls: impl Iterator<Item = &Cmd>,
) -> RedisResult<Vec<RedisResult<Value>>> {
    let mut pipeline = Pipeline::new();
    for call in calls {
        pipeline.add_command(script.by_text(call));
    }
    pipeline.ignore_errors();
    let answers: Vec<RedisResult<Value>> = pipeline.query_async(connection).await?;
    let repeat = |error| if refuses_eval(&error) { not_known() } else { error };
    Ok(answers.into_iter().map(|answer| answer.map_err(repeat)).collect())
}

/// The error for a script that the server does not know.
fn not_known() -> RedisError {
    (ErrorKind::Server(ServerErrorKind::NoScript), "the server does not know the script").into()
}

pub(super) fn forgotten(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether the answer to EVAL says that there is no such command, or not for this user. No script mentions it.
fn refuses_eval(error: &RedisError) -> bool {
    server_error_text(error).to_ascii_lowercase().contains("eval")
}
