//! The questions of tools that this node has not answered yet.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::backend::NodeId;
use crate::sync::{Mutex, Notify};

/// Questions that wait. Further ones are dropped: a client that may publish must not make this node work without a limit.
const ROOM: usize = 16;

/// A question of a tool.
pub(crate) struct Question {
    pub(crate) asker: NodeId,
    pub(crate) id: u64,
    pub(crate) text: Bytes,
}

/// The questions that wait for the task that answers them.
pub(crate) struct Questions {
    waiting: Mutex<VecDeque<Question>>,
    news: Notify,
}

impl Questions {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::default(), news: Notify::new() }
    }

    /// Adds a question, if there is room.
    pub(crate) fn put(&self, question: Question) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < ROOM {
            waiting.push_back(question);
            drop(waiting);
            self.news.notify_one();
        }
    }

    /// The next question. Only one task waits.
    pub(crate) async fn next(&self) -> Question {
        loop {
            if let Some(question) = self.waiting.lock().pop_front() {
                return question;
            }
            self.news.notified().await;
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn questions_beyond_the_limit_are_dropped() {
        let questions = Questions::new();
        for id in 0..100 {
            questions.put(Question { asker: NodeId(1), id, text: Bytes::new() });
        }
        for id in 0..ROOM as u64 {
            assert_eq!(questions.next().await.id, id);
        }
        assert!(questions.waiting.lock().is_empty());
    }
}
