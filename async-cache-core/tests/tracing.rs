//! Spans and events on `tracing`.
#![cfg(feature = "tracing")]

use std::io;
use std::sync::{Arc, Mutex};

use async_cache_core::testing::No;
use async_cache_core::{Error, TieredCache};
use async_cache_memory::MemoryBackend;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn misses_have_spans_and_hits_have_none() -> Result<(), Error> {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(FmtSpan::NEW)
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let cache: TieredCache<String, String> =
        TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10)).build()?;
    let load = || async {
        tracing::info!("inside the loader");
        Ok::<_, No>("a secret value".to_owned())
    };
    cache.get_or_load("a secret key", load).await?;
    let after_miss = log.0.lock().expect("unpoisoned").len();
    cache.get_or_load("a secret key", load).await?;
    assert_eq!(log.0.lock().expect("unpoisoned").len(), after_miss, "a hit logs nothing");
    let _ = cache.get_or_load("another", || async { Err::<String, _>(No(1)) }).await;
    cache.invalidate("a secret key").await?;

    let text = String::from_utf8(log.0.lock().expect("unpoisoned").clone()).expect("text");
    for needle in [
        "cache.lookup{namespace=\"rows\" key=",
        // The load is part of the lookup that began it, and what the loader logs is part of the load.
        "}:cache.load{namespace=\"rows\" keys=1}: tracing: inside the loader",
        "cache.change{namespace=\"rows\"}",
        "a load failed namespace=\"rows\"",
    ] {
        assert!(text.contains(needle), "{needle:?} is not in:\n{text}");
    }
    assert!(!text.contains("secret"), "neither keys nor values are logged:\n{text}");
    Ok(())
}
