//! The safeguards of the model. A mutant lacks one of them.

/// The fault of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mutant {
    /// No fault.
    None,
    /// FILL does not check whether the lease is still valid.
    UnconditionalFill,
    /// An invalidation does not break the lease of the load that it meets.
    InvalidationKeepsTheLease,
    /// L1 stores what it is offered, without a check of the ticket.
    NoStamp,
    /// The ticket is taken after the reply.
    StampAfterReply,
    /// The ticket is checked in one step, and the value is stored in another.
    CheckThenInsert,
    /// A change on this node empties L1 only before its command.
    NoSecondRemoval,
    /// A change does not make the flight under way unjoinable.
    JoinAfterInvalidation,
    /// A flight of any age is joined, even while the bus may be silent.
    JoinWhileSuspended,
    /// A new baseline never moves the generation.
    ReconnectWithoutFlush,
    /// The baseline is read before the subscription is confirmed.
    FlushBeforeSubscribed,
    /// An echo extends the serving lease without a check of its number.
    HeartbeatWithoutSequenceCheck,
    /// The message is sent first, and the value is removed after it.
    PublishBeforeDelete,
    /// L1 answers without a serving lease.
    ServeWhileSuspended,
    /// A lease is granted although another one is valid.
    LeaseForEveryone,
    /// All acquisitions of a node have one token.
    TokenSharedPerClient,
    /// A promoted or emptied server continues with its own numbers.
    FailoverWithoutEpoch,
    /// A plain read is judged by the state of the earlier server, no matter which server answered.
    TrustAnyRun,
    /// The entries stay valid although the state is ahead of the received messages.
    ContinueBehindTheState,
    /// The value of a wake-up answers, no matter how long it was on its way.
    TrustLateWakes,
    /// A failed change does not empty L1 again.
    NoRemovalOnFailure,
    /// L2 is asked for a key whose invalidation failed on this node.
    ReadPastPending,
    /// A put whose deadline is over may be executed at any later time.
    PutAtAnyTime,
    /// A refreshed value is stored without a message to the other nodes.
    RefreshInSilence,
    /// If L1 refuses the new value of a refresh, it keeps the old one.
    NoRemovalAfterRefresh,
}
