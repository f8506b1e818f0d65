//! One method for each option, for every type that holds options.

/// Makes one method of each line: its name, its argument, and what the option of this name becomes.
macro_rules! setters {
    (|$this:ident| $options:expr; $($(#[$attr:meta])* $name:ident($arg:ident: $type:ty) = $value:expr;)*) => {$(
        $(#[$attr])*
        pub fn $name(mut self, $arg: $type) -> Self {
            let $this = &mut self;
            $options.$name = $value;
            self
        }
    )*};
}
pub(crate) use setters;

/// The options for storing values.
macro_rules! store_setters {
    (|$this:ident| $options:expr) => {
        $crate::options::setters! { |$this| $options;
            /// Sets the lifetime of the value. The default is 5 minutes; a call takes the option of its cache.
            ttl(ttl: std::time::Duration) = ttl;
            /// Sets how long L1 answers before it must ask L2. The default is `ttl`; a call takes the option of its
            /// cache.
            l1_ttl(l1_ttl: std::time::Duration) = Some(l1_ttl);
            /// Shortens each lifetime by a random fraction of at most this number, from 0 to below 1. The default
            /// is 0; a call takes the option of its cache.
            ttl_jitter(fraction: f64) = fraction;
            /// Sets how long the value is kept as a fallback after it expires. The default is 0; a call takes the
            /// option of its cache.
            stale_for(stale_for: std::time::Duration) = stale_for;
        }

        /// Adds a tag. [`invalidate_tag`](crate::api::cache::TieredCache::invalidate_tag) removes every entry
        /// that has the tag. A tag has 1 to 128 bytes, and an entry has at most 32 tags. With an invalid tag
        /// the call fails.
        pub fn tag(mut self, tag: impl AsRef<str>) -> Self {
            let $this = &mut self;
            $options.tags.add(tag.as_ref());
            self
        }

        /// Adds tags. See [`tag`](Self::tag).
        pub fn tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
            let $this = &mut self;
            tags.into_iter().for_each(|tag| $options.tags.add(tag.as_ref()));
            self
        }
    };
}
pub(crate) use store_setters;

/// The options for storing the absence of a value.
macro_rules! negative_setters {
    (|$this:ident| $options:expr) => {
        $crate::options::setters! { |$this| $options;
            /// Sets the lifetime of a cached absence. The default is 30 s; a call takes the option of its cache.
            negative_ttl(negative_ttl: std::time::Duration) = negative_ttl;
        }
    };
}
pub(crate) use negative_setters;

/// The options for loading values.
macro_rules! load_setters {
    (|$this:ident| $options:expr) => {
        $crate::options::setters! { |$this| $options;
            /// Sets the hard limit on one load. The default is 30 s; a call takes the option of its cache.
            load_timeout(load_timeout: std::time::Duration) = load_timeout;
            /// Sets the duration of the lease on a load. The default is 3 s; a call takes the option of its cache.
            lease_ttl(lease_ttl: std::time::Duration) = lease_ttl;
            /// Sets how long to wait for loads on other nodes. The default is 10 s; a call takes the option of its
            /// cache.
            wait_timeout(wait_timeout: std::time::Duration) = wait_timeout;
            /// Refreshes values before they expire, with this eagerness (β of XFetch). A good start is 1. It must
            /// be from 0 to 100. By default nothing is refreshed; a call takes the option of its cache.
            refresh_ahead(eagerness: f64) = Some(eagerness);
            /// Sets the minimum time between a failed refresh and the next one. The default is 1 s; a call takes
            /// the option of its cache.
            error_backoff(error_backoff: std::time::Duration) = error_backoff;
            /// Sets how long this node answers with the error of a failed load, without loading again. The default is
            /// 0; a call takes the option of its cache. See [`LoadOptions`](crate::options::LoadOptions::error_ttl).
            error_ttl(error_ttl: std::time::Duration) = error_ttl;
        }
    };
}
pub(crate) use load_setters;

/// The options for answering with a stale value during a load.
macro_rules! stale_setters {
    (|$this:ident| $options:expr) => {
        $crate::options::setters! { |$this| $options;
            /// Sets how long a caller waits for a load if there is a stale value. By default it waits for the end
            /// of the load; a call takes the option of its cache. It needs `stale_for`.
            soft_timeout(soft_timeout: std::time::Duration) = Some(soft_timeout);
            /// Sets whether a stale value answers at once, and is refreshed in the background. The default is
            /// false; a call takes the option of its cache. It needs `stale_for`.
            stale_while_revalidate(stale_while_revalidate: bool) = stale_while_revalidate;
            /// Sets whether a stale value answers if the load fails or times out. The default is true; a call takes
            /// the option of its cache.
            stale_on_error(stale_on_error: bool) = stale_on_error;
        }
    };
}
pub(crate) use stale_setters;
