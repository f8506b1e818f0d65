//! Questions to all nodes of a namespace, and their answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_cache::backend::{BusEvent, Listener, NodeId};
use async_cache::tools::Namespace;
use async_cache::{Error, ErrorKind};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};

use crate::args::Shared;
use crate::connect;
use crate::ears::Ears;
use crate::failure::Failure;

/// A namespace whose nodes can be asked.
pub(crate) struct Fleet {
    pub(crate) namespace: Namespace,
    /// Changes that have been heard.
    pub(crate) changes: u64,
    events: Receiver<BusEvent>,
    _ears: Arc<Ears>,
    subscribed: bool,
    asked: u64,
    limit: Duration,
    /// What this program says when another one asks.
    verb: &'static str,
}

/// What the nodes have answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    /// The nodes that answered, by their identity.
    pub(crate) nodes: Vec<Node>,
    /// Listeners that did not answer in time.
    pub(crate) missing: u64,
}

impl Answers {
    /// These answers, and later ones to the same question. A node that has answered one of the two is not missing.
    fn joined(self, again: Self) -> Self {
        let silent = |node: &Node| again.nodes.iter().all(|other| other.id != node.id);
        let early: Vec<Node> = self.nodes.into_iter().filter(silent).collect();
        let missing = self.missing.min(again.missing.saturating_sub(early.len() as u64));
        Self { nodes: again.nodes.into_iter().chain(early).collect(), missing }
    }
}

/// One node's answer.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: String,
    fields: BTreeMap<String, String>,
}

impl Fleet {
    /// Opens the namespace that the arguments name.
    pub(crate) async fn open(shared: &Shared, verb: &'static str) -> Result<Self, Failure> {
        let (ears, events) = Ears::new();
        let listener = Arc::clone(&ears) as Arc<dyn Listener>;
        let namespace = connect::open(shared, Arc::downgrade(&listener)).await?;
        let limit = shared.timeout;
        Ok(Self { namespace, changes: 0, events, _ears: ears, subscribed: false, asked: 0, limit, verb })
    }

    /// Asks every node. A listener that does not answer is counted if it is still there when all are asked again:
    /// another program like this one listens too, and may have ended meanwhile.
    pub(crate) async fn ask(&mut self, question: &[u8]) -> Result<Answers, Error> {
        let first = self.ask_once(question).await?;
        if first.missing == 0 {
            return Ok(first);
        }
        Ok(first.joined(self.ask_once(question).await?))
    }

    /// Asks every node once. Waits until all have answered, for the deadline of a command at most.
    pub(crate) async fn ask_once(&mut self, question: &[u8]) -> Result<Answers, Error> {
        let end = Instant::now() + self.limit;
        // An answer to a program that does not listen yet is lost.
        while !self.subscribed {
            match timeout_at(end, self.events.recv()).await {
                Ok(Some(BusEvent::Refused { why })) => return Err(Error::new(ErrorKind::Config, &*why)),
                Ok(Some(event)) => _ = self.take(event).await,
                _ => {
                    let what = format!("subscribing to the namespace: not done within {:?}", self.limit);
                    return Err(Error::new(ErrorKind::Backend, what));
                }
            }
        }
        self.asked += 1;
        // This program listens, too.
        let others = self.namespace.region().ask(self.asked, question).await?.saturating_sub(1);
        let mut answers: BTreeMap<NodeId, Option<Node>> = BTreeMap::new();
        while (answers.len() as u64) < others
            && let Ok(Some(event)) = timeout_at(end, self.events.recv()).await
        {
            if let Some((id, node)) = self.take(event).await {
                answers.insert(id, node);
            }
        }
        let missing = others - answers.len() as u64;
        Ok(Answers { nodes: answers.into_values().flatten().collect(), missing })
    }

    /// Hears what comes until then.
    pub(crate) async fn listen_until(&mut self, end: Instant) {
        while let Ok(Some(event)) = timeout_at(end, self.events.recv()).await {
            self.take(event).await;
        }
    }

    /// Takes an event. Returns an answer to the last question: that of a node, or of a program like this one.
    async fn take(&mut self, event: BusEvent) -> Option<(NodeId, Option<Node>)> {
        match event {
            // Answers come on the channel of partition 0.
            BusEvent::Subscribed | BusEvent::PartitionSubscribed { partition: 0 } => self.subscribed = true,
            BusEvent::Lost | BusEvent::PartitionLost { partition: 0 } => self.subscribed = false,
            BusEvent::Invalidated { .. }
            | BusEvent::Expired { .. }
            | BusEvent::Cleared { .. }
            | BusEvent::TagsInvalidated { .. }
            | BusEvent::TagsExpired { .. } => self.changes += 1,
            BusEvent::Asked { asker, id, .. } if asker != self.namespace.node() => {
                let answer = tool_answer(self.verb);
                let _ = self.namespace.region().answer(asker, id, answer.as_bytes()).await;
            }
            BusEvent::Answered { node, id, answer } if id == self.asked => {
                return Some((node, Node::read(node, &answer)));
            }
            _ => {}
        }
        None
    }
}

/// What a program like this one answers: it is no node.
pub(crate) fn tool_answer(verb: &str) -> String {
    format!("tool={verb}\n")
}

impl Node {
    /// Reads an answer. Returns `None` for the answer of a program like this one.
    fn read(id: NodeId, answer: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(answer);
        let fields = text.lines().filter_map(|line| line.split_once('='));
        let fields: BTreeMap<_, _> =
            fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (!fields.contains_key("tool")).then(|| Self { id: id.to_string(), fields })
    }

    /// A field that is text. Empty if the node does not tell it.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// A field that is a number. Zero if the node does not tell it.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// All fields as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let fields = self.fields.iter().map(|(name, value)| {
            let value = match value.parse::<u64>() {
                Ok(number) if FLAGS.contains(&&**name) => (number != 0).into(),
                Ok(number) if !TEXTS.contains(&&**name) => number.into(),
                _ => serde_json::Value::from(value.as_str()),
            };
            (name.clone(), value)
        });
        let mut out: serde_json::Map<_, _> =
            [("node".to_owned(), self.id.clone().into())].into_iter().collect();
        out.extend(fields);
        out.into()
    }

    #[cfg(test)]
    pub(crate) fn for_test(id: &str, fields: &[(&str, &str)]) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { id: id.to_owned(), fields: fields.collect() }
    }
}

/// Fields that are text even if they look like numbers.
const TEXTS: [&str; 4] = ["host", "state", "token", "version"];

/// Fields that are true or false, and that nodes send as numbers.
const FLAGS: [&str; 1] = ["absence"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_one_of_two_questions_is_not_missing() {
        let answers = |ids: &[&str], missing| Answers {
            nodes: ids.iter().map(|id| Node::for_test(id, &[])).collect(),
            missing,
        };
        for (first, again, expected) in [
            ((&["a"][..], 1), (&["a", "b"][..], 0), (&["a", "b"][..], 0)),
            ((&["a", "b"], 1), (&["b"], 2), (&["b", "a"], 1)),
            ((&["a"], 1), (&["a"], 1), (&["a"], 1)),
            ((&["a"], 1), (&[], 1), (&["a"], 0)),
        ] {
            let joined = answers(first.0, first.1).joined(answers(again.0, again.1));
            let ids: Vec<&str> = joined.nodes.iter().map(|node| &*node.id).collect();
            assert_eq!((&*ids, joined.missing), expected);
        }
    }

    #[test]
    fn answers_of_nodes_are_read_and_those_of_tools_are_left_out() {
        let id = NodeId(0xAB);
        let node = Node::read(id, b"host=7\npid=12\nloads=3\nnonsense\n").unwrap();
        assert_eq!((node.number("loads"), node.text("host"), node.number("none")), (3, "7", 0));
        assert_eq!(
            node.json(),
            serde_json::json!({ "node": "00000000000000ab", "host": "7", "pid": 12, "loads": 3 })
        );
        assert!(Node::read(id, tool_answer("watch").as_bytes()).is_none());
    }
}
