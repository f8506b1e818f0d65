//! One method for each option, for every type that holds options.

/// The options for storing values.
macro_rules! store_setters {
    (|$this:ident| $options:expr) => {
        /// Sets the lifetime of the value. The default is 5 minutes; a call takes the option of its cache.
        pub fn ttl(mut self, ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.ttl = ttl;
            self
        }

        /// Sets how long L1 answers before it must ask L2. The default is `ttl`; a call takes the option of its
        /// cache.
        pub fn l1_ttl(mut self, l1_ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.l1_ttl = Some(l1_ttl);
            self
        }

        /// Shortens each lifetime by a random fraction of at most this number, from 0 to below 1. The default
        /// is 0; a call takes the option of its cache.
        pub fn ttl_jitter(mut self, fraction: f64) -> Self {
            let $this = &mut self;
            $options.ttl_jitter = fraction;
            self
        }

        /// Sets how long the value is kept as a fallback after it expires. The default is 0; a call takes the
        /// option of its cache.
        pub fn stale_for(mut self, stale_for: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.stale_for = stale_for;
            self
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
        /// Sets the lifetime of a cached absence. The default is 30 s; a call takes the option of its cache.
        pub fn negative_ttl(mut self, negative_ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.negative_ttl = negative_ttl;
            self
        }
    };
}
pub(crate) use negative_setters;

/// The options for loading values.
macro_rules! load_setters {
    (|$this:ident| $options:expr) => {
        /// Sets the hard limit on one load. The default is 30 s; a call takes the option of its cache.
        pub fn load_timeout(mut self, load_timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.load_timeout = load_timeout;
            self
        }

        /// Sets the duration of the lease on a load. The default is 3 s; a call takes the option of its cache.
        pub fn lease_ttl(mut self, lease_ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.lease_ttl = lease_ttl;
            self
        }

        /// Sets how long to wait for loads on other nodes. The default is 10 s; a call takes the option of its
        /// cache.
        pub fn wait_timeout(mut self, wait_timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.wait_timeout = wait_timeout;
            self
        }

        /// Refreshes values before they expire, with this eagerness (β of XFetch). A good start is 1. It must
        /// be from 0 to 100. By default nothing is refreshed; a call takes the option of its cache.
        pub fn refresh_ahead(mut self, eagerness: f64) -> Self {
            let $this = &mut self;
            $options.refresh_ahead = Some(eagerness);
            self
        }

        /// Sets the minimum time between a failed refresh and the next one. The default is 1 s; a call takes
        /// the option of its cache.
        pub fn error_backoff(mut self, error_backoff: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.error_backoff = error_backoff;
            self
        }

        /// Sets how long this node answers with the error of a failed load, without loading again. The default is
        /// 0; a call takes the option of its cache. See [`LoadOptions`](crate::options::LoadOptions::error_ttl).
        pub fn error_ttl(mut self, error_ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.error_ttl = error_ttl;
            self
        }
    };
}
pub(crate) use load_setters;

/// The options for answering with a stale value during a load.
macro_rules! stale_setters {
    (|$this:ident| $options:expr) => {
        /// Sets how long a caller waits for a load if there is a stale value. By default it waits for the end
        /// of the load; a call takes the option of its cache. It needs `stale_for`.
        pub fn soft_timeout(mut self, soft_timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.soft_timeout = Some(soft_timeout);
            self
        }

        /// Sets whether a stale value answers at once, and is refreshed in the background. The default is
        /// false; a call takes the option of its cache. It needs `stale_for`.
        pub fn stale_while_revalidate(mut self, stale_while_revalidate: bool) -> Self {
            let $this = &mut self;
            $options.stale_while_revalidate = stale_while_revalidate;
            self
        }

        /// Sets whether a stale value answers if the load fails or times out. The default is true; a call takes
        /// the option of its cache.
        pub fn stale_on_error(mut self, stale_on_error: bool) -> Self {
            let $this = &mut self;
            $options.stale_on_error = stale_on_error;
            self
        }
    };
}
pub(crate) use stale_setters;
