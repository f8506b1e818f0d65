//! Macros of async-cache. Use them through the facade, `async_cache`.
