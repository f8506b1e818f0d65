//! The files of this crate use one another in one direction.

#[path = "../../integration-tests/src/rooms.rs"]
mod rooms;

use std::path::Path;

const NONE: Vec<Vec<String>> = Vec::new();

fn file(module: &str) -> &str {
    module
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let mut sources = rooms::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert_eq!(rooms::circles(&sources, file), NONE);

    let lowest = sources.get_mut("store::partition").expect("a module that the others use");
    lowest.push_str("\nuse crate::{region::MemoryRegion, store::Store};\n");
    assert_ne!(rooms::circles(&sources, file), NONE, "an import upwards is found");
}

#[test]
fn no_type_has_methods_in_more_than_two_files() {
    let mut sources = rooms::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert_eq!(rooms::scattered(&sources), Vec::<String>::new());

    sources.get_mut("region").expect("a module").push_str("\nimpl<V> MemoryBackend<V> {}\n");
    let found = rooms::scattered(&sources);
    assert!(
        matches!(&found[..], [one] if one.starts_with("MemoryBackend: ")),
        "methods in a third file: {found:?}"
    );
}
