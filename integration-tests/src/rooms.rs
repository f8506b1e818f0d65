//! Finds which files of a crate import one another, and which files give a type its methods. The crates' own tests
//! include this file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules of a crate: each with the text of its file, without comments and tests.
pub(crate) type Sources = BTreeMap<String, String>;

/// Reads the modules under a crate's `src`. The root is the module without a name.
pub(crate) fn read(src: &Path) -> Sources {
    let mut sources = Sources::new();
    add(src, "", &mut sources);
    sources
}

fn add(folder: &Path, module: &str, sources: &mut Sources) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of the folder").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let child = if module.is_empty() { name.clone() } else { format!("{module}::{name}") };
        if path.is_dir() {
            add(&path, &child, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let code = code.collect::<Vec<_>>().join("\n");
            let own = matches!(name.as_str(), "mod" | "lib");
            sources.insert(if own { module.to_owned() } else { child }, code);
        }
    }
}

/// The parts of a crate that import one another, directly or through others. `part` tells the part of a module: itself,
/// to find circles of files. A parent and each of its children may import each other.
pub(crate) fn circles(sources: &Sources, part: impl Fn(&str) -> &str) -> Vec<Vec<String>> {
    groups(&graph(sources, part))
}

/// The imports between parts.
pub(crate) type Graph<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// The imports between parts.
pub(crate) fn graph(sources: &Sources, part: impl Fn(&str) -> &str) -> Graph<'_> {
    let mut graph = Graph::new();
    for (module, code) in sources {
        let from = part(module);
        let targets = imports(module, code, sources).into_iter().map(&part).filter(|target| *target != from);
        graph.entry(from).or_default().extend(targets);
    }
    graph
}

/// The types whose own methods are in more than two files, each with these files.
pub(crate) fn scattered(sources: &Sources) -> Vec<String> {
    let mut owners = BTreeMap::<String, BTreeSet<&str>>::new();
    for (module, code) in sources {
        let code = format!("\n{code}");
        for (at, item) in code.match_indices("\nimpl") {
            let head = code[at + item.len()..].split('{').next().unwrap_or_default();
            if let Some(owner) = owner(head) {
                owners.entry(owner).or_default().insert(module);
            }
        }
    }
    owners.retain(|_, modules| modules.len() > 2);
    let list = |modules: BTreeSet<&str>| modules.into_iter().collect::<Vec<_>>().join(", ");
    owners.into_iter().map(|(owner, modules)| format!("{owner}: {}", list(modules))).collect()
}

/// The type of an `impl`, by the text between this word and the body. `None` if it implements a trait.
fn owner(head: &str) -> Option<String> {
    let (words, mut depth, mut owner) = (words(head), 0, None);
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "<" => depth += 1,
            ">" if words[at - 1] != "-" => depth -= 1,
            "for" if depth == 0 => return None,
            "where" => break,
            name if depth == 0 && name.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                owner = Some(name.to_owned());
            }
            _ => {}
        }
    }
    owner
}

fn groups(graph: &Graph<'_>) -> Vec<Vec<String>> {
    let reach: Graph<'_> = graph.keys().map(|module| (*module, reachable(module, graph))).collect();
    let mut groups = BTreeSet::new();
    for (module, reached) in &reach {
        let group: Vec<&str> =
            reached.iter().copied().filter(|other| reach[other].contains(module)).collect();
        if group.len() > 1 && !is_family(&group, graph) {
            groups.insert(group);
        }
    }
    let name = |module: &str| if module.is_empty() { "lib".to_owned() } else { module.to_owned() };
    groups.into_iter().map(|group| group.into_iter().map(name).collect()).collect()
}

/// Whether the circles of a group are those of one parent with its children, and none of children among themselves.
fn is_family(group: &[&str], graph: &Graph<'_>) -> bool {
    let is_child = |of: &str, other: &str| other == of || parent(other) == of;
    group.iter().any(|root| {
        let others = group.iter().copied().filter(|other| other != root);
        let without = |imports: &BTreeSet<&str>| {
            others.clone().filter(|other| imports.contains(other)).collect::<BTreeSet<_>>()
        };
        let children: Graph<'_> = others.clone().map(|child| (child, without(&graph[child]))).collect();
        group.iter().all(|other| is_child(root, other))
            && children.keys().all(|child| !reachable(child, &children).contains(child))
    })
}

/// The modules that a module reaches by one import or more.
fn reachable<'a>(module: &'a str, graph: &Graph<'a>) -> BTreeSet<&'a str> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![module]);
    while let Some(next) = left.pop() {
        left.extend(graph[next].iter().filter(|other| reached.insert(**other)));
    }
    reached
}

/// The modules whose items a module names.
fn imports<'a>(module: &str, code: &str, sources: &'a Sources) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    for path in paths(code) {
        let mut segments = path.iter().map(String::as_str).peekable();
        let mut base = match segments.peek() {
            Some(&"crate") => String::new(),
            _ => module.to_owned(),
        };
        while let Some(first) = segments.next_if(|first| matches!(*first, "crate" | "self" | "super")) {
            if first == "super" {
                base = parent(&base).to_owned();
            }
        }
        for segment in segments {
            let child = if base.is_empty() { segment.to_owned() } else { format!("{base}::{segment}") };
            if !sources.contains_key(&child) {
                break;
            }
            base = child;
        }
        if let Some((target, _)) = sources.get_key_value(&base).filter(|(target, _)| *target != module) {
            found.insert(target.as_str());
        }
    }
    found
}

fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}

/// Every path that begins with `crate`, `self` or `super`, and every path of a `use`; groups are taken apart.
fn paths(code: &str) -> Vec<Vec<String>> {
    let words = words(code);
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let begins = match word.as_str() {
            "crate" | "self" | "super" => at == 0 || words[at - 1] != "::",
            _ => at > 0 && words[at - 1] == "use",
        };
        if begins && words.get(at + 1).is_some_and(|next| next == "::") {
            tree(&words, at, &[], &mut found);
        }
    }
    found
}

/// Reads one path, or a path with a group, from `at` on. Returns the position after it.
fn tree(words: &[String], mut at: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    loop {
        match words.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while words.get(at).is_some_and(|word| word != "}") {
                    at = if words[at] == "," { at + 1 } else { tree(words, at, &path, found) };
                }
                return at + 1;
            }
            Some(word) if word.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '*') => {
                path.push(word.to_owned());
                at += 1;
            }
            _ => break,
        }
        if words.get(at).is_none_or(|next| next != "::") {
            break;
        }
        at += 1;
    }
    found.push(path);
    while words.get(at).is_some_and(|word| word != "," && word != "}") && !before.is_empty() {
        at += 1;
    }
    at.max(1)
}

/// Names, `::`, and single signs.
fn words(code: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(next) = chars.next_if(|next| next.is_alphanumeric() || *next == '_') {
                word.push(next);
            }
            words.push(word);
        } else if c == ':' && chars.next_if_eq(&':').is_some() {
            words.push("::".to_owned());
        } else if !c.is_whitespace() {
            words.push(c.to_string());
        }
    }
    words
}
