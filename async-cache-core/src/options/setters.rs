//! A method for every option, on whatever holds options.

/// For what stores values.
macro_rules! store_setters {
    (|$this:ident| $options:expr) => {
        /// Sets the lifetime of the value.
        pub fn ttl(mut self, ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.ttl = ttl;
            self
        }

        /// Sets how long L1 answers before it must ask L2.
        pub fn l1_ttl(mut self, l1_ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.l1_ttl = Some(l1_ttl);
            self
        }

        /// Shortens each lifetime at random by up to this fraction (0 to below 1).
        pub fn ttl_jitter(mut self, fraction: f64) -> Self {
            let $this = &mut self;
            $options.ttl_jitter = fraction;
            self
        }

        /// Sets how long past its expiry the value is kept as a fallback.
        pub fn stale_for(mut self, stale_for: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.stale_for = stale_for;
            self
        }

        /// Adds a tag: [`invalidate_tag`](crate::api::cache::TieredCache::invalidate_tag) voids every entry
        /// that has it. 1 to 128 bytes, at most 32 of them; a wrong one is an error of the call.
        pub fn tag(mut self, tag: impl AsRef<str>) -> Self {
            let $this = &mut self;
            $options.tags.add(tag.as_ref());
            self
        }

        /// Adds tags; see [`tag`](Self::tag).
        pub fn tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
            let $this = &mut self;
            tags.into_iter().for_each(|tag| $options.tags.add(tag.as_ref()));
            self
        }
    };
}
pub(crate) use store_setters;

/// For what may store an absence, too.
macro_rules! negative_setters {
    (|$this:ident| $options:expr) => {
        /// Sets the lifetime of a cached absence.
        pub fn negative_ttl(mut self, negative_ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.negative_ttl = negative_ttl;
            self
        }
    };
}
pub(crate) use negative_setters;

/// For what loads.
macro_rules! load_setters {
    (|$this:ident| $options:expr) => {
        /// Sets the hard limit on one load.
        pub fn load_timeout(mut self, load_timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.load_timeout = load_timeout;
            self
        }

        /// Sets the life of the lease on a load.
        pub fn lease_ttl(mut self, lease_ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.lease_ttl = lease_ttl;
            self
        }

        /// Sets how long to wait for other nodes' loads.
        pub fn wait_timeout(mut self, wait_timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.wait_timeout = wait_timeout;
            self
        }

        /// Refreshes ahead of expiry, with this eagerness (β of XFetch; 1 is a good start).
        pub fn refresh_ahead(mut self, eagerness: f64) -> Self {
            let $this = &mut self;
            $options.refresh_ahead = Some(eagerness);
            self
        }

        /// Sets the least time from a failed refresh to the next.
        pub fn error_backoff(mut self, error_backoff: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.error_backoff = error_backoff;
            self
        }
    };
}
pub(crate) use load_setters;

/// For what may answer with a stale value meanwhile.
macro_rules! stale_setters {
    (|$this:ident| $options:expr) => {
        /// Sets how long to wait for a load with a stale value at hand. Needs `stale_for`.
        pub fn soft_timeout(mut self, soft_timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.soft_timeout = Some(soft_timeout);
            self
        }

        /// Sets whether a stale value answers at once, and is refreshed behind the answer. Needs `stale_for`.
        pub fn stale_while_revalidate(mut self, stale_while_revalidate: bool) -> Self {
            let $this = &mut self;
            $options.stale_while_revalidate = stale_while_revalidate;
            self
        }

        /// Sets whether a stale value answers when the load fails or times out.
        pub fn stale_on_error(mut self, stale_on_error: bool) -> Self {
            let $this = &mut self;
            $options.stale_on_error = stale_on_error;
            self
        }
    };
}
pub(crate) use stale_setters;
