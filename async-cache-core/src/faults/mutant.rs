//! Switches for safeguards. A test switches off one safeguard at a time, to show that the proof then fails.
//! Without the feature `testing` nothing can be switched off, and the compiler removes every hook.

macro_rules! mutants {
    ($($(#[$attr:meta])* $name:ident,)*) => {
        /// A safeguard of one cache that a test can switch off. Without it the code is wrong, and a test must fail.
        /// Each variant says what the code then does.
        #[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "exported for tests alone"))]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Mutant {
            $($(#[$attr])* $name,)*
        }

        #[cfg(feature = "testing")]
        impl Mutant {
            /// All mutants.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];
        }
    };
}
mutants! {
    /// A change does not raise the stripe's counts. A load that was running at that time may still store its
    /// value in L1.
    NoStamp,
    /// The ticket is taken when the answer has arrived, not before the command is sent.
    StampAfterReply,
    /// The ticket is checked under the stripe's lock, but the value is inserted after the lock is released.
    /// To force the interleaving, the insertion waits until the next change of the stripe.
    #[cfg(feature = "testing")]
    CheckThenInsert,
    /// An invalidation removes the key from L1 before its command, but not again after the reply.
    NoSecondRemoval,
    /// A change does not remove the current flight. Later gets join it.
    JoinAfterInvalidation,
    /// A get joins a flight of any age, although the bus may be silent.
    JoinWhileSuspended,
    /// A new baseline does not raise the generation, although changes were missed.
    ReconnectWithoutFlush,
    /// The generation rises when the subscription is lost, not after the next one is acknowledged.
    FlushBeforeSubscribed,
    /// An echo extends the serving lease, even if its sequence is not `applied`.
    HeartbeatWithoutSequenceCheck,
    /// L1 answers without a serving lease.
    ServeWhileSuspended,
    /// Every acquisition and every value of this node has one and the same token.
    TokenSharedPerClient,
    /// A plain read is judged by the node's knowledge of one server, although another server may have
    /// answered.
    TrustAnyRun,
    /// A lookup reads L2 although an invalidation of the key is pending on this node.
    ReadPastPending,
    /// L2 may execute a put at any time after the node has given it up.
    PutAtAnyTime,
    /// Waiters are not told that the load has ended.
    LoseWakes,
    /// The node forgets the highest number it knows. Only the run id shows that the server's memory has been
    /// replaced.
    ForgetNumbers,
    /// A load counts as failed if its value is too large for the wake-up.
    LargeWakesFail,
    /// A hit is not checked against the invalidated tags.
    HitsIgnoreTags,
    /// A joined caller gets the load's value, even if a tag of the value was invalidated before the caller
    /// joined.
    JoinersUnchecked,
    /// The value for a joined caller is checked by the number of its seal, not by the number at which it was
    /// loaded.
    JoinersCheckedBySeal,
    /// A full tag table starts again empty, and its floor does not rise.
    TagsForgotten,
    /// A fallback that a flight has found answers, even if a change has voided it since.
    FallbackUnchecked,
    /// Stored values are judged although no answer has told the server's time yet, as if that time were zero.
    /// A value that L2 confirms by its token keeps the expiry that was computed then.
    TrustUnknownServerTime,
    /// An entry past its cap in L1 (`l1_ttl`) counts as expired, although L2 has the value fresh.
    CapMeansStale,
    /// A change that L2 refused is retried as often as a change that did not reach L2.
    RefusalsRetriedLikeOutages,
    /// A joined caller waits for the flight without a time limit, possibly for ever.
    WaitWithoutDeadline,
    /// If a load brings an absence, each joined caller that needs a value loads by itself.
    SuccessorsLeadAlone,
    /// The leases of a batch are renewed only while its loader runs, and they are not longer for many keys.
    LeasesKeptFromLoad,
}

/// The safeguard that is switched off, and a lowered limit. Outside of tests there is neither.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Switch {
    #[cfg(feature = "testing")]
    pub(crate) off: Option<Mutant>,
    #[cfg(feature = "testing")]
    pub(crate) tag_slots: Option<usize>,
}

impl Switch {
    /// The number of slots of a tag table, if a test has changed it.
    pub(crate) fn tag_slots(self) -> Option<usize> {
        #[cfg(feature = "testing")]
        return self.tag_slots;
        #[cfg(not(feature = "testing"))]
        None
    }

    /// Whether this mutant is active.
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
