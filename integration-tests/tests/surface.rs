//! The traffic of the proofs is drawn from everything there is.

use std::collections::BTreeSet;
use std::path::Path;

use fastrand::Rng;
use integration_tests::surface::options::DRAWN;
use integration_tests::surface::{Call, Options, Range, Tiers, Verb};

/// Methods of a cache that are no traffic: they make one, tell of it, or end it.
const OF_A_CACHE: &[&str] =
    &["subscribe", "stats", "namespace", "shutdown", "ready", "is_idle", "is_serving"];

/// Setters that say something else than how an entry is kept or loaded, and where they are drawn.
const OTHER_SETTERS: &[&str] = &[
    // Of the builder: the plan of a simulation.
    "namespace",
    "l1",
    "l2_with",
    "schema_version",
    "schema",
    "load_failure_log",
    "defaults",
    "outage",
    "max_staleness",
    "heartbeat",
    "mutant",
    "tag_slots",
    // Of requests: `perform`.
    "at_least",
    "concurrency",
    "batch_size",
    "on_progress",
    "uncached",
    // Of a stamp.
    "merge",
    // Of a `DataLoader`.
    "max_batch_size",
    "delay",
    "max_pending",
    "max_entries",
    "options",
    "build",
];

fn sources() -> Vec<String> {
    fn collect(folder: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("the sources of the core").flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                into.push(std::fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut found = Vec::new();
    collect(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../async-cache-core/src")), &mut found);
    assert!(found.len() > 50, "the sources of the core are elsewhere");
    found
}

/// The name of a public method that this line begins, if it does.
fn method(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("pub fn ").or_else(|| line.strip_prefix("pub async fn "))?;
    rest.split(['(', '<']).next()
}

/// The public methods of a type that take it by reference.
fn methods_of(owner: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources() {
        let mut inside = false;
        let mut last = None;
        for line in source.lines() {
            if line.starts_with("impl") {
                inside = line.contains(&format!(" {owner}<")) && !line.contains(" for ");
            } else if line.starts_with('}') {
                inside = false;
            }
            if !inside {
                continue;
            }
            if line.contains("fn ") && !line.trim_start().starts_with("//") {
                last = method(line).map(str::to_owned);
            }
            // The receiver stands in the line of the name, or in one of those below.
            if line.contains("&self") || line.contains("&'a self") {
                found.extend(last.take());
            }
        }
    }
    found
}

#[test]
fn every_verb_is_drawn() {
    for (owner, others) in [("TieredCache", OF_A_CACHE), ("DataLoader", &[][..])] {
        let drawn = Verb::ALL.iter().map(|verb| verb.method()).filter(|(of, _)| *of == owner);
        let known: BTreeSet<String> =
            drawn.map(|(_, name)| name).chain(others.iter().copied()).map(str::to_owned).collect();
        let public: BTreeSet<String> =
            methods_of(owner).into_iter().filter(|name| !name.starts_with("loader_over")).collect();
        assert_eq!(public, known, "a verb of {owner} is not in `surface::Verb`, or is there no more");
    }
}

#[test]
fn every_option_is_drawn() {
    let mut public = BTreeSet::new();
    for source in sources() {
        let loaders = source.contains("impl<K, V> DataLoader<K, V>");
        for line in source.lines() {
            let Some(name) = method(line) else { continue };
            if line.contains("(mut self") || (loaders && line.contains("(self, ")) {
                public.insert(name.to_owned());
            }
        }
    }
    let known: BTreeSet<String> = DRAWN.iter().chain(OTHER_SETTERS).map(|name| (*name).to_owned()).collect();
    let missing: Vec<_> = public.difference(&known).collect();
    assert!(missing.is_empty(), "options that no traffic draws: {missing:?}");
    let gone: Vec<_> = DRAWN.iter().filter(|name| !public.contains(**name)).collect();
    assert!(gone.is_empty(), "options that are no more: {gone:?}");
}

#[test]
fn every_verb_and_every_option_comes_up() {
    let mut rng = Rng::with_seed(7);
    let (mut verbs, mut options) = (BTreeSet::new(), BTreeSet::new());
    for id in 0..5_000 {
        let defaults = Options::draw(Tiers::Both, &mut rng);
        let range = Range { keys: 3, tiers: Tiers::Both, own_options: 60 };
        let call = Call::draw(id, range, &defaults, &mut rng, |_| true);
        verbs.insert(format!("{:?}", call.verb));
        options.extend(names_given(&call.options));
        assert!(!call.keys.is_empty());
    }
    assert_eq!(verbs.len(), Verb::ALL.len());
    // `tag` is the one of a cache that has one.
    assert!(DRAWN.iter().filter(|name| **name != "tag").all(|name| options.contains(*name)), "{options:?}");
}

/// Destructured to the last, so that an option is neither drawn without a name nor named without a draw.
fn names_given(options: &Options) -> Vec<&'static str> {
    let Options {
        ttl,
        l1_ttl,
        ttl_jitter,
        stale_for,
        negative_ttl,
        load_timeout,
        lease_ttl,
        wait_timeout,
        refresh_ahead,
        error_backoff,
        stale_while_revalidate,
        stale_on_error,
        soft_timeout,
        tags,
    } = options;
    let given = [
        ttl.is_some(),
        l1_ttl.is_some(),
        ttl_jitter.is_some(),
        stale_for.is_some(),
        negative_ttl.is_some(),
        load_timeout.is_some(),
        lease_ttl.is_some(),
        wait_timeout.is_some(),
        refresh_ahead.is_some(),
        error_backoff.is_some(),
        stale_while_revalidate.is_some(),
        stale_on_error.is_some(),
        soft_timeout.is_some(),
        tags.len() == 1,
        tags.len() > 1,
    ];
    DRAWN.iter().zip(given).filter(|(_, given)| *given).map(|(name, _)| *name).collect()
}
