//! The limit of warnings: a fault that repeats must not fill the log.

use async_cache_core::WarningLimits;
use tracing::level_filters::LevelFilter;

/// The kinds of warnings. Each is limited on its own, so that one fault does not hide another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "used by the log reader"))]
pub(crate) enum Warning {
    DatabaseFailed,
    CacheFailed,
    Unreadable,
    UnknownNamespaces,
    Waits,
    SlotCreated,
    NamespacesInvalidated,
}

const KINDS: usize = Warning::NamespacesInvalidated as usize + 1;

/// The warnings of one relay or log reader. They have the limits of a cache.
#[derive(Debug, Default)]
pub(crate) struct Limits(WarningLimits<KINDS>);

/// A warning that is logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// The number of suppressed warnings before this one, if there were any.
    pub(crate) suppressed: Option<u64>,
}

impl Limits {
    /// Returns nothing if this warning is suppressed. Warnings that no subscriber would get are not counted.
    pub(crate) fn admit(&self, warning: Warning) -> Option<Admitted> {
        if LevelFilter::current() < LevelFilter::WARN {
            return None;
        }
        let before = self.0.admit(warning as usize)?;
        Some(Admitted { suppressed: (before > 0).then_some(before) })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Write as _};
    use std::sync::Arc;
    use std::time::Duration;

    use parking_lot::Mutex;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    /// Keeps the warnings as lines.
    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            let _ = write!(self.0, "{}={value:?} ", field.name());
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().push(line.0);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    /// Causes a fault 50 times, and once more when the window has ended. Returns the lines of that one.
    async fn repeated(name: &str, fault: impl Fn()) -> String {
        let lines = Lines::default();
        let _logged = tracing::subscriber::set_default(lines.clone());
        (0..50).for_each(|_| fault());
        let first = std::mem::take(&mut *lines.0.lock());
        assert_eq!(first.len(), 10, "{name}: {first:?}");
        assert!(first.iter().all(|line| !line.contains("suppressed")), "{name}: {first:?}");
        tokio::time::advance(Duration::from_secs(60)).await;
        (0..2).for_each(|_| fault());
        let later = std::mem::take(&mut *lines.0.lock());
        assert!(later[0].contains("suppressed=40 ") && !later[1].contains("suppressed"), "{name}: {later:?}");
        later[0].clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_logs_ten_warnings_of_a_kind_in_a_minute_and_counts_all_faults() {
        let relay = crate::relay::stats::Shared::new("rows".to_owned());
        let error = || "it is down".to_owned();
        let line = repeated("the database", || relay.database_failed(&error())).await;
        assert_eq!(line.matches("rows").count(), 1, "{line}");
        // Each kind has a limit of its own.
        repeated("the cache", || relay.cache_failed(error())).await;
        repeated("the rows", || relay.unreadable(error())).await;
        let (seen, figures) = (std::cell::Cell::new(0), crate::database::Figures::default);
        let new_name = || {
            seen.set(seen.get() + 1);
            relay.seen(figures(), vec![format!("space-{}", seen.get())]);
        };
        repeated("the namespaces", new_name).await;
        let stats = relay.stats.lock();
        assert_eq!((stats.cache_failures, stats.database_failures), (52, 52));
        assert_eq!(stats.last_error.as_deref(), Some("it is down"));
    }

    #[cfg(feature = "postgres")]
    #[tokio::test(start_paused = true)]
    async fn a_log_reader_logs_ten_warnings_of_a_kind_in_a_minute_and_counts_all_faults() {
        use crate::replication::stats::{Landed, Shared};

        let reader = Shared::new("rows".to_owned());
        let error = || "it is down".to_owned();
        let line = repeated("the database", || reader.database_failed(&error())).await;
        assert_eq!(line.matches("rows").count(), 1, "{line}");
        repeated("the cache", || reader.cache_failed(error())).await;
        repeated("the log", || reader.waits(error())).await;
        repeated("the slot", || reader.created()).await;
        let refused = || reader.landed(Landed { refused: 1, reason: Some(error()), ..Landed::default() });
        repeated("the function", refused).await;
        let stats = reader.stats.lock();
        assert_eq!((stats.cache_failures, stats.database_failures), (52, 52));
        assert_eq!((stats.created, stats.refused), (52, 52));
    }
}
