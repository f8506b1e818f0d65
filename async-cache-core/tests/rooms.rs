//! The rooms of `src/`: each uses only those below it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the top to the bottom. A room uses what stands in a later line, and itself.
const ROOMS: &[&[&str]] = &[
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

/// What is built for tests alone, and what re-exports.
const APART: &[&str] = &["lib", "schedules", "testing"];

/// The sources, by their path below `src`.
fn sources() -> BTreeMap<PathBuf, String> {
    fn collect(folder: &Path, into: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                into.insert(path, text);
            }
        }
    }
    let (src, mut found) = (Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), BTreeMap::new());
    collect(src, &mut found);
    found.into_iter().map(|(path, text)| (path.strip_prefix(src).unwrap().to_owned(), text)).collect()
}

fn room_of(path: &Path) -> String {
    let first = path.components().next().expect("a file").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn level(room: &str) -> Option<usize> {
    ROOMS.iter().position(|level| level.contains(&room))
}

/// The code of a file: without comments, and without its tests.
fn code(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = shipped.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths `crate::a::b` in a file, those in braces one by one, as far as they are modules.
fn uses(code: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if at > 0 && code[..at].ends_with(['_', '$']) {
            continue;
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(rest.len());
        let path: Vec<String> =
            rest[..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        match rest[end..].strip_prefix('{').and_then(|inside| inside.split('}').next()) {
            Some(inside) => {
                for name in inside.split(',') {
                    let name = name.trim().split([' ', ':']).next().unwrap_or_default();
                    found.insert([path.clone(), vec![name.to_owned()]].concat());
                }
            }
            None => drop(found.insert(path)),
        }
    }
    found
}

#[test]
fn every_room_is_known() {
    let rooms: BTreeSet<String> = sources().keys().map(|path| room_of(path)).collect();
    let unknown: Vec<_> =
        rooms.iter().filter(|room| level(room).is_none() && !APART.contains(&room.as_str())).collect();
    assert!(unknown.is_empty(), "rooms without a place in the order: {unknown:?}");
}

#[test]
fn no_arrow_runs_up() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(here) = level(&room_of(&path)) else { continue };
        for used in uses(&code(&text)) {
            let there = level(&used[0]);
            if there.is_some_and(|there| there < here) {
                wrong.push(format!("{} uses crate::{}", path.display(), used.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows against the order of the rooms:\n{}", wrong.join("\n"));
}

/// The file of the module that a path leads to.
fn file_of(path: &[String], files: &BTreeMap<PathBuf, String>) -> Option<PathBuf> {
    (1..=path.len()).rev().find_map(|count| {
        let module: PathBuf = path[..count].iter().collect();
        let (file, folder) = (module.with_extension("rs"), module.join("mod.rs"));
        [file, folder].into_iter().find(|candidate| files.contains_key(candidate))
    })
}

/// Whether one of two files is the module that the other is in.
fn are_parent_and_child(a: &Path, b: &Path) -> bool {
    let is_parent = |parent: &Path, child: &Path| {
        let module = if parent.ends_with("mod.rs") {
            parent.parent().unwrap().to_owned()
        } else {
            parent.with_extension("")
        };
        child.starts_with(module)
    };
    is_parent(a, b) || is_parent(b, a)
}

#[test]
fn no_two_files_use_one_another() {
    let files = sources();
    let mut edges: BTreeMap<&Path, BTreeSet<PathBuf>> = BTreeMap::new();
    for (path, text) in files.iter().filter(|(path, _)| level(&room_of(path)).is_some()) {
        let used = uses(&code(text));
        let used = used.iter().filter_map(|used| file_of(used, &files));
        edges.insert(path, used.filter(|used| used != path && !are_parent_and_child(path, used)).collect());
    }
    let mut circles = Vec::new();
    for start in edges.keys() {
        // Every file that can be reached; a circle is reported once, at its first file.
        let (mut seen, mut open) = (BTreeSet::new(), vec![(*start).to_owned()]);
        while let Some(file) = open.pop() {
            for next in edges.get(file.as_path()).into_iter().flatten() {
                if next == start {
                    circles.push(format!("{} … {}", start.display(), file.display()));
                } else if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
    }
    assert!(circles.is_empty(), "circles of imports:\n{}", circles.join("\n"));
}
