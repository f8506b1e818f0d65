//! Checks that the traffic of the checkers covers all public methods and options.

use std::collections::BTreeSet;
use std::path::Path;

use fastrand::Rng;
use integration_tests::surface::options::DRAWN;
use integration_tests::surface::{Call, Options, Range, Tiers, Verb};

/// Methods of a cache that are not traffic: they observe the cache or end it.
const OF_A_CACHE: &[&str] =
    &["subscribe", "stats", "namespace", "shutdown", "ready", "is_idle", "is_serving", "serving_partitions"];

/// Setters that do not concern the storing or loading of an entry. The traffic uses them.
const OTHERS_IN_USE: &[&str] = &[
    // Setters of the builder. The plan of a simulation uses them.
    "namespace",
    "l1",
    "outage",
    "max_staleness",
    "mutant",
    "tag_slots",
    "verify",
    "per_second",
    // Setters of requests. `perform` uses them. The two numbers are equal in all calls.
    "at_least",
    "skip_l1",
    "concurrency",
    "batch_size",
    "uncached",
    // Setters of a `DataLoader`.
    "max_batch_size",
    "delay",
    "max_pending",
    "options",
];

/// Setters that no traffic uses, and the reasons.
const NOT_IN_USE: &[(&str, &str)] = &[
    ("l2_with", "one codec, that of `l2`: what the others do is judged value by value"),
    ("schema", "it keeps caches of other values apart, and the traffic has one kind of value"),
    ("schema_version", "the same"),
    ("defaults", "what it sets is set one by one"),
    ("load_failure_log", "it says what is logged"),
    ("heartbeat", "it follows from `max_staleness`, which is drawn"),
    ("on_progress", "what it tells is summed up in the report, which is judged"),
    ("max_entries", "it is about loaders without a cache"),
    ("merge", "each call insists on one stamp"),
    ("same", "the verifier compares values, and the traffic has one kind"),
    ("with_source", "a load of the verifier is none that the oracles know"),
];

/// The sources in a folder beside this crate, or in a folder of this crate.
fn sources_in(folder: &str) -> Vec<String> {
    fn collect(folder: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                into.push(std::fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    found
}

fn sources() -> Vec<String> {
    let found = sources_in("../async-cache-core/src");
    assert!(found.len() > 50, "the sources of the core are elsewhere");
    found
}

/// The name of the public method that begins on this line, if there is one.
fn method(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("pub fn ").or_else(|| line.strip_prefix("pub async fn "))?;
    rest.split(['(', '<']).next()
}

/// The name of the setter that begins on this line, if there is one: a method, or a line of the macro that writes
/// setters, `name(argument: type) = value;`.
fn setter(line: &str) -> Option<&str> {
    if line.contains("(mut self") {
        return method(line).filter(|name| !name.starts_with('$'));
    }
    let (name, rest) = line.trim_start().split_once('(')?;
    let (argument, rest) = rest.split_once(": ")?;
    let is_name =
        |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte));
    (!name.is_empty() && is_name(name) && is_name(argument) && rest.contains(") = ")).then_some(name)
}

/// The public methods of a type that take `self` by reference.
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
            // The receiver is on the line of the name, or on one of the lines below.
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
            let of_a_loader = || method(line).filter(|_| loaders && line.contains("(self, "));
            public.extend(setter(line).or_else(of_a_loader).map(str::to_owned));
        }
    }
    let not_in_use = NOT_IN_USE.iter().map(|(name, _)| name);
    let listed: Vec<&str> = DRAWN.iter().chain(OTHERS_IN_USE).chain(not_in_use).copied().collect();
    let known: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(listed.len(), known.len(), "a name is listed twice");
    let missing: Vec<_> = public.difference(&known).collect();
    assert!(missing.is_empty(), "options that no traffic draws: {missing:?}");
    let gone: Vec<_> = known.difference(&public).collect();
    assert!(gone.is_empty(), "options that are no more: {gone:?}");
}

#[test]
fn what_is_said_to_be_in_use_is_called() {
    let traffic = sources_in("src").concat();
    let called = |name: &str| traffic.contains(&format!(".{name}("));
    let idle: Vec<_> = OTHERS_IN_USE.iter().filter(|name| !called(name)).collect();
    assert!(idle.is_empty(), "setters that no traffic calls: {idle:?}");
}

/// The options that the macro with this name in `surface::options` sets, including those of the macros that it
/// uses.
fn set_by(name: &str) -> BTreeSet<String> {
    let source = include_str!("../src/surface/options.rs");
    let body = source.split(&format!("macro_rules! {name} {{")).nth(1).expect("a macro of the options");
    let body = body.split("\n}\n").next().expect("its end");
    let mut found = BTreeSet::new();
    if name == "set_tags" {
        return ["tag", "tags"].map(str::to_owned).into();
    }
    for call in body.split("set!(").skip(1) {
        let names = call.split(')').next().and_then(|inside| inside.split(';').nth(1)).expect("names");
        found.extend(names.split_whitespace().map(str::to_owned));
    }
    for other in ["set_tags", "set_store", "set_load"] {
        if body.contains(&format!("{other}!(")) {
            found.extend(set_by(other));
        }
    }
    found
}

/// The setters in the blocks of a type or a macro that begin with this line.
fn setters_in(beginning: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources() {
        let mut inside = false;
        for line in source.lines() {
            match line {
                _ if line.starts_with(beginning) => inside = true,
                _ if line.starts_with('}') => inside = false,
                _ if inside => found.extend(setter(line).map(str::to_owned)),
                _ => {}
            }
        }
    }
    assert!(!found.is_empty(), "no setters after {beginning:?}");
    found
}

/// Each type is checked separately. Otherwise an option that one type lacks would not be noticed.
#[test]
fn every_option_of_each_type_is_drawn() {
    let of = |group: &str| setters_in(&format!("macro_rules! {group}_setters"));
    let (store, negative, load, stale) = (of("store"), of("negative"), of("load"), of("stale"));
    let all = |parts: &[&BTreeSet<String>]| -> BTreeSet<String> {
        parts.iter().flat_map(|part| part.iter().cloned()).collect()
    };
    let mut chosen = setters_in("impl<V> Loaded<V>");
    assert!(chosen.remove("uncached"), "`perform` calls it");
    assert_eq!(set_by("set_choice"), chosen, "what a loader chooses");
    assert_eq!(set_by("set_store"), store, "what stores");
    assert_eq!(set_by("set_load"), all(&[&store, &negative, &load]), "what loads");
    assert_eq!(set_by("set_load_only"), all(&[&load, &stale]), "how is loaded");
    assert_eq!(set_by("set_all"), all(&[&store, &negative, &load, &stale]), "what takes stale values");
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
    // `tag` is set only for a cache with one tag.
    assert!(DRAWN.iter().filter(|name| **name != "tag").all(|name| options.contains(*name)), "{options:?}");
}

/// The struct is destructured completely. So an option is neither drawn without a name nor named without a
/// draw.
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
        error_ttl,
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
        error_ttl.is_some(),
        stale_while_revalidate.is_some(),
        stale_on_error.is_some(),
        soft_timeout.is_some(),
        tags.len() == 1,
        tags.len() > 1,
    ];
    DRAWN.iter().zip(given).filter(|(_, given)| *given).map(|(name, _)| *name).collect()
}
