//! Safeguards, switched off one at a time, so that what proves a safeguard can be shown to object without
//! it. Without the feature `testing` nothing can be switched, and the compiler removes every hook.

/// A safeguard of one cache to be switched off: what is left is wrong, and a proof must find it so.
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "exported for tests alone"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// A change does not move the stripe's counts: a load that it met may still be stored in L1.
    NoStamp,
    /// The ticket is taken when the answer is here, not before the command was sent.
    StampAfterReply,
    /// The ticket is checked under the stripe's lock, the value inserted after it was let go: to be
    /// sure of the interleaving, behind the next change of the stripe.
    #[cfg(feature = "testing")]
    CheckThenInsert,
    /// An invalidation empties L1 before its command, but not again after the reply.
    NoSecondRemoval,
    /// A change does not forget the flight under way: later gets join it.
    JoinAfterInvalidation,
    /// A flight of any age is joined, although the bus may be silent.
    JoinWhileSuspended,
    /// A new baseline does not move the generation, whatever was missed.
    ReconnectWithoutFlush,
    /// The generation is moved when the subscription is lost, not after it is acknowledged anew.
    FlushBeforeSubscribed,
    /// An echo extends the serving lease, whatever sequence number it brings.
    HeartbeatWithoutSequenceCheck,
    /// L1 answers without a serving lease.
    ServeWhileSuspended,
    /// Every acquisition and every value of this node carries the same token.
    TokenSharedPerClient,
    /// A plain read is judged by what is known of the server before, whichever answered.
    TrustAnyRun,
    /// L2 is read although an invalidation made here has not reached it.
    ReadPastPending,
    /// A put that was given up may be executed at any later time.
    PutAtAnyTime,
    /// Nobody is told that the load it waits for has ended.
    LoseWakes,
    /// The highest number met is forgotten: the server's memory is only held against its run id.
    ForgetNumbers,
    /// A load whose value is too large to travel with the wake-up is taken for one that failed.
    LargeWakesFail,
    /// A hit is not held against the tags that were invalidated.
    HitsIgnoreTags,
    /// A load is joined whatever tags its value turns out to have.
    JoinersUnchecked,
    /// Those who joined a load are checked by the number its value is sealed with, not by that at
    /// which it was loaded.
    JoinersCheckedBySeal,
    /// A full table of tags starts anew without raising its floor.
    TagsForgotten,
    /// A stale value that a load has found is served whatever happened since.
    FallbackUnchecked,
    /// Stored values are judged although no answer has told the server's time yet, as if it were zero; and a
    /// value confirmed by its token keeps the life that was computed then.
    TrustUnknownServerTime,
    /// A value past its cap in L1 counts as expired, although L2 has it fresh.
    CapMeansStale,
    /// What L2 refuses is tried again as often as what it could not be asked.
    RefusalsRetriedLikeOutages,
    /// Whoever waits for a load that another caller leads waits for as long as that takes, for ever included.
    WaitWithoutDeadline,
    /// Those for whom a load has brought no value each load by themselves.
    SuccessorsLeadAlone,
    /// The leases of a batch are kept alive only while its loader runs, and are no longer for all its keys.
    LeasesKeptFromLoad,
}

#[cfg(feature = "testing")]
impl Mutant {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::NoStamp,
        Self::StampAfterReply,
        Self::CheckThenInsert,
        Self::NoSecondRemoval,
        Self::JoinAfterInvalidation,
        Self::JoinWhileSuspended,
        Self::ReconnectWithoutFlush,
        Self::FlushBeforeSubscribed,
        Self::HeartbeatWithoutSequenceCheck,
        Self::ServeWhileSuspended,
        Self::TokenSharedPerClient,
        Self::TrustAnyRun,
        Self::ReadPastPending,
        Self::PutAtAnyTime,
        Self::LoseWakes,
        Self::ForgetNumbers,
        Self::LargeWakesFail,
        Self::HitsIgnoreTags,
        Self::JoinersUnchecked,
        Self::JoinersCheckedBySeal,
        Self::TagsForgotten,
        Self::FallbackUnchecked,
        Self::TrustUnknownServerTime,
        Self::CapMeansStale,
        Self::RefusalsRetriedLikeOutages,
        Self::WaitWithoutDeadline,
        Self::SuccessorsLeadAlone,
        Self::LeasesKeptFromLoad,
    ];
}

/// Which safeguard is switched off, and which limit lowered; outside of tests, none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Switch {
    #[cfg(feature = "testing")]
    pub(crate) off: Option<Mutant>,
    #[cfg(feature = "testing")]
    pub(crate) tag_slots: Option<usize>,
}

impl Switch {
    /// Slots of a table of tags, if not as many as usual.
    pub(crate) fn tag_slots(self) -> Option<usize> {
        #[cfg(feature = "testing")]
        return self.tag_slots;
        #[cfg(not(feature = "testing"))]
        None
    }

    /// Whether this is that mutant.
    #[inline(always)]
    pub(crate) fn is(self, mutant: Mutant) -> bool {
        #[cfg(feature = "testing")]
        return self.off == Some(mutant);
        #[cfg(not(feature = "testing"))]
        {
            let _ = mutant;
            false
        }
    }
}
