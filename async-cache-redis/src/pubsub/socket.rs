//! The subscriber's connection, in the protocol that the server speaks.

use std::sync::Arc;

use futures_util::StreamExt;
use redis::aio::{PubSub, PubSubSink, PubSubStream};
use redis::{ErrorKind, Msg, Pipeline, PushInfo, PushKind, RedisResult, Value};
use tokio_util::task::AbortOnDropHandle;

use super::bus::Bus;
use crate::connection::channels::Channels;
use crate::connection::host::Opened;
use crate::reply::redirected;

/// A connection to subscribe on.
pub(super) enum Socket {
    /// RESP3: the task that reads the socket hands everything to the bus, acknowledgements included.
    Pushes(Opened),
    /// RESP2: a task of ours hands messages to the bus. Acknowledgements arrive with the answer to the command.
    ///
    /// So a message may be handed to the bus before the acknowledgement that it follows. It is dropped then, and
    /// nothing is lost: the listener reads a baseline after `Subscribed`, and the baseline contains the change of the
    /// message.
    Messages { sink: PubSubSink, _reader: AbortOnDropHandle<()> },
}

/// How the acknowledgements of a subscription arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledged {
    /// As pushes, at the bus.
    OnTheBus,
    /// With the answer, here.
    Here,
}

impl Socket {
    /// Hands the messages of a RESP2 connection to the bus.
    pub(super) fn messages(connection: PubSub, bus: Arc<Bus>, number: u64) -> Self {
        let (sink, stream) = connection.split();
        let reader = tokio::spawn(read(stream, bus, number));
        Self::Messages { sink, _reader: AbortOnDropHandle::new(reader) }
    }

    pub(super) async fn subscribe(&mut self, names: &[&[u8]]) -> RedisResult<Acknowledged> {
        match self {
            Self::Pushes(Opened { connection, .. }) => {
                connection.subscribe(names).await?;
                Ok(Acknowledged::OnTheBus)
            }
            Self::Messages { sink, .. } => {
                sink.subscribe(names).await?;
                Ok(Acknowledged::Here)
            }
        }
    }

    pub(super) async fn unsubscribe(&mut self, names: &[&[u8]]) -> RedisResult<()> {
        match self {
            Self::Pushes(Opened { connection, .. }) => connection.unsubscribe(names).await,
            Self::Messages { sink, .. } => sink.unsubscribe(names).await,
        }
    }

    /// Subscribes to channels of partitions of a cluster: an outcome for each. They are acknowledged on the bus.
    pub(super) async fn subscribe_each(
        &mut self,
        channels: Channels,
        names: &[&[u8]],
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let [_, subscribe, _] = channels.commands();
        self.each(subscribe, names).await
    }

    pub(super) async fn unsubscribe_each(&mut self, channels: Channels, names: &[&[u8]]) -> RedisResult<()> {
        let [_, _, unsubscribe] = channels.commands();
        for outcome in self.each(unsubscribe, names).await? {
            // If the slot has left the server, it has ended the subscription.
            outcome.map(drop).or_else(|error| if redirected(&error) { Ok(()) } else { Err(error) })?;
        }
        Ok(())
    }

    /// One command for each channel: by slots, those of one command must have one slot.
    async fn each(&mut self, command: &str, names: &[&[u8]]) -> RedisResult<Vec<RedisResult<Value>>> {
        let Self::Pushes(Opened { connection, .. }) = self else {
            return Err((ErrorKind::RESP3NotSupported, "channels of a cluster need RESP3").into());
        };
        let mut pipeline = Pipeline::with_capacity(names.len());
        for name in names {
            pipeline.cmd(command).arg(name);
        }
        pipeline.ignore_errors();
        pipeline.query_async(connection).await
    }

    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        match self {
            Self::Pushes(Opened { connection, .. }) => redis::cmd("PING").exec_async(connection).await,
            Self::Messages { sink, .. } => sink.ping::<Value>().await.map(drop),
        }
    }
}

/// Ends when the connection does.
async fn read(mut stream: PubSubStream, bus: Arc<Bus>, number: u64) {
    while let Some(message) = stream.next().await {
        if let Some(push) = as_push(&message) {
            bus.take(number, push);
        }
    }
    bus.ended(number);
}

fn as_push(message: &Msg) -> Option<PushInfo> {
    let channel: Value = message.get_channel().ok()?;
    let data = vec![channel, Value::BulkString(message.get_payload_bytes().to_vec())];
    Some(PushInfo { kind: PushKind::Message, data })
}
