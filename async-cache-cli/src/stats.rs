//! The verb `stats`: the statistics of all nodes.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use crate::args::Shared;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Answers, Fleet, Node};
use crate::output;

/// The fields that are added up, in the order in which they are shown.
pub(crate) const SUMMED: [&str; 8] = [
    "l1_hits",
    "l2_hits",
    "misses",
    "loads",
    "stale_served",
    "entries",
    "in_flight",
    "pending_invalidations",
];

/// Asks all nodes once.
pub(crate) async fn run(shared: &Shared) -> Result<Outcome, Failure> {
    let mut fleet = Fleet::open(shared, "stats").await?;
    let answers = fleet.ask(b"stats").await?;
    let namespace = fleet.namespace.name();
    if shared.json {
        output::json(&as_json(namespace, &answers))?;
    } else {
        print(namespace, &answers)?;
    }
    Ok(outcome(&answers))
}

/// A node that does not answer is a problem, and so is a namespace without nodes.
fn outcome(answers: &Answers) -> Outcome {
    if answers.missing > 0 || answers.nodes.is_empty() { Outcome::Problem } else { Outcome::Good }
}

/// The answers as one JSON object.
pub(crate) fn as_json(namespace: &str, answers: &Answers) -> Value {
    let totals: Map<String, Value> = names(&answers.nodes)
        .map(|name| {
            let total: u64 = answers.nodes.iter().map(|node| node.number(&name)).sum();
            (name, total.into())
        })
        .collect();
    json!({
        "namespace": namespace,
        "answered": answers.nodes.len(),
        "missing": answers.missing,
        "hit_rate": hit_rate(|name| answers.nodes.iter().map(|node| node.number(name)).sum()),
        "totals": totals,
        "nodes": answers.nodes.iter().map(Node::json).collect::<Vec<_>>(),
    })
}

/// The names of all figures: fields that are numbers, without those that say which node it is.
fn names(nodes: &[Node]) -> impl Iterator<Item = String> {
    let apart = ["pid", "max_staleness_ms"];
    let first = nodes.first().map(Node::json);
    let fields = first.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    let numbers = fields.into_iter().filter(|(_, value)| value.is_u64()).map(|(name, _)| name);
    numbers.filter(move |name| !apart.contains(&&**name))
}

/// The fraction of lookups that needed no load, as `Stats::hit_rate` has it.
pub(crate) fn hit_rate(of: impl Fn(&str) -> u64) -> f64 {
    let hits = of("l1_hits") + of("l2_hits") + of("coalesced_waits") + of("stale_served");
    match hits + of("misses") {
        0 => 0.0,
        all => hits as f64 / all as f64,
    }
}

/// Whether the node's L1 answers, and whether L2 refuses the node.
pub(crate) fn health(node: &Node) -> &'static str {
    match (node.number("l2_refused"), node.number("l1_suspended")) {
        (0, 0) => "ok",
        (0, _) => "L1 suspended",
        (_, 0) => "changes refused",
        _ => "L2 refused",
    }
}

fn print(namespace: &str, answers: &Answers) -> Result<(), Failure> {
    let nodes = &answers.nodes;
    if nodes.is_empty() {
        let silent = match answers.missing {
            0 => String::new(),
            missing => format!(" ({missing} listen, and did not answer)"),
        };
        output::line(&format!("no node of namespace `{namespace}` answers{silent}"))?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let heads = ["node", "process", "state", "hit rate"].into_iter().chain(SUMMED);
    table.set_header(heads.map(|head| head.replace('_', " ")));
    for node in nodes {
        let process = format!("{}/{}", node.text("host"), node.text("pid"));
        let rate = percent(hit_rate(|name| node.number(name)));
        let row = [node.id.clone(), process, health(node).to_owned(), rate];
        table.add_row(row.into_iter().chain(SUMMED.map(|name| node.number(name).to_string())));
    }
    let sum = |name: &str| nodes.iter().map(|node| node.number(name)).sum::<u64>();
    let row = [format!("{} node(s)", nodes.len()), String::new(), String::new(), percent(hit_rate(sum))];
    table.add_row(row.into_iter().chain(SUMMED.map(|name| sum(name).to_string())));
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(&table.to_string())?;
    if answers.missing > 0 {
        output::line(&format!("{} listener(s) did not answer in time", answers.missing))?;
    }
    Ok(())
}

fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_cannot_serve_differs_from_one_whose_changes_are_refused() {
        let of = |refused, suspended| {
            health(&Node::for_test(
                "00000000000000aa",
                &[("l2_refused", refused), ("l1_suspended", suspended)],
            ))
        };
        let states = [of("0", "0"), of("0", "1"), of("1", "0"), of("1", "1")];
        assert_eq!(states, ["ok", "L1 suspended", "changes refused", "L2 refused"]);
    }
}
