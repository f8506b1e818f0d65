//! Safeguards of the model, switched off one at a time.

/// What is wrong with the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mutant {
    /// Nothing.
    None,
    /// FILL does not ask whether the lease still stands.
    UnconditionalFill,
    /// An invalidation leaves the lease of the load it meets.
    InvalidationKeepsTheLease,
    /// L1 takes what is offered, whatever the ticket says.
    NoStamp,
    /// The ticket is taken when the answer is here.
    StampAfterReply,
    /// The ticket is checked in one step, the value stored in another.
    CheckThenInsert,
    /// An own change empties L1 before its command only.
    NoSecondRemoval,
    /// A change does not forget the flight under way.
    JoinAfterInvalidation,
    /// A flight of any age is joined while the bus may be silent.
    JoinWhileSuspended,
    /// A new baseline never moves the generation.
    ReconnectWithoutFlush,
    /// The baseline is taken before the subscription is acknowledged.
    FlushBeforeSubscribed,
    /// An echo extends the serving lease, whatever number it brings.
    HeartbeatWithoutSequenceCheck,
    /// The message is sent first, the value removed then.
    PublishBeforeDelete,
    /// L1 answers without a serving lease.
    ServeWhileSuspended,
    /// A lease is granted though another stands.
    LeaseForEveryone,
    /// All acquisitions of a node carry one token.
    TokenSharedPerClient,
    /// A promoted or emptied server goes on with the numbers it has.
    FailoverWithoutEpoch,
    /// A plain read is judged by what is known of the server before, whichever answered.
    TrustAnyRun,
    /// What is held goes on although the state is ahead of what was heard.
    ContinueBehindTheState,
    /// A wake-up's value answers, however long it was on the way.
    TrustLateWakes,
    /// A change that fails does not empty L1 again.
    NoRemovalOnFailure,
    /// L2 is asked for a key whose invalidation failed here.
    ReadPastPending,
    /// A put that was given up may be executed at any later time.
    PutAtAnyTime,
    /// A refreshed value is stored without telling the other nodes.
    RefreshInSilence,
    /// A refresh does not empty L1 of what it replaces, should L1 refuse the new value.
    NoRemovalAfterRefresh,
}
