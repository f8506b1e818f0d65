//! The rooms of `src/`: each uses only those below it, and no two files use one another.

#[path = "../../integration-tests/src/rooms.rs"]
mod rooms;

use std::path::Path;

use rooms::Sources;

/// From the top to the bottom. A room uses what stands in a later line, and itself.
const ORDER: &[&[&str]] = &[
    &["api"],
    &["lookup"],
    &["changes"],
    &["inner"],
    &["remote"],
    &["local"],
    &["liveness"],
    &["backend"],
    &["options"],
    &["format"],
    &["observe"],
    &["error", "faults", "sync"],
];

/// The sources without the root, which re-exports, and without what is built for tests alone.
fn sources() -> Sources {
    let mut sources = rooms::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    sources.retain(|module, _| !["", "schedules", "testing"].contains(&room(module)));
    sources
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn level(room: &str) -> usize {
    let level = ORDER.iter().position(|level| level.contains(&room));
    level.unwrap_or_else(|| panic!("the room `{room}` has no place in the order"))
}

/// The imports against the order.
fn wrong_arrows(sources: &Sources) -> Vec<String> {
    let graph = rooms::graph(sources, room);
    let arrows = graph.iter().flat_map(|(from, to)| to.iter().map(move |to| (*from, *to)));
    let wrong = arrows.filter(|(from, to)| level(to) < level(from));
    wrong.map(|(from, to)| format!("{from} uses {to}")).collect()
}

#[test]
fn no_arrow_runs_up() {
    let mut sources = sources();
    assert_eq!(wrong_arrows(&sources), Vec::<String>::new());

    sources.get_mut("format::tags").expect("a low module").push_str("\nuse crate::inner::Inner;\n");
    assert_eq!(wrong_arrows(&sources), ["format uses inner"], "an arrow that runs up is found");
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let mut sources = sources();
    assert_eq!(rooms::circles(&sources, |module| module), Vec::<Vec<String>>::new());

    sources.get_mut("local::request").expect("a low module").push_str("\nuse crate::local::l1::L1;\n");
    assert_ne!(rooms::circles(&sources, |module| module), Vec::<Vec<String>>::new(), "a circle is found");
}

#[test]
fn no_type_has_methods_in_more_than_two_files() {
    let mut sources = sources();
    assert_eq!(rooms::scattered(&sources), Vec::<String>::new());

    sources.get_mut("inner").expect("a module").push_str("\nimpl<K, V> TieredCache<K, V> {}\n");
    let found = rooms::scattered(&sources);
    assert!(
        matches!(&found[..], [one] if one.starts_with("TieredCache: ")),
        "methods in a third file: {found:?}"
    );
}
