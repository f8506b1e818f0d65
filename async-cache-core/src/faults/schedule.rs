//! Faults that take effect between two instructions, where no other proof looks.

use std::cell::Cell;

/// An order of steps turned round, or a lock left out. Planted in the code itself; present in this
/// build alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A value is checked under the stripe's lock, and inserted without it.
    InsertUnlocked,
    /// A flight is taken out first, and its value stored after.
    LandInTwoSteps,
    /// A flight that lands takes out whichever is under way.
    LandAny,
    /// The last number that was heard counts, not the highest.
    LastNotHighest,
    /// A waiter is woken before it is left word.
    RingBeforeTelling,
    /// A waiter looks for the end of a flight, and asks to be woken after.
    LookBeforeRegistering,
    /// A leader that goes away says so to nobody.
    StrandWaiters,
    /// A hit reads the generation before it checks the serving lease.
    GenerationFirst,
    /// A new baseline lets L1 serve, and moves the generation after.
    ServeBeforeFlush,
    /// A change that is heard counts as applied before it is.
    CountBeforeRemoval,
    /// A table of tags that starts anew is emptied first, and its floor raised after.
    EmptyBeforeFloor,
    /// A change of unknown outcome empties L1 first, and is queued after.
    EmptyThenQueue,
}

thread_local! {
    /// All threads of a schedule run on one of the system's.
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

impl Fault {
    pub(crate) fn is_planted(self) -> bool {
        PLANTED.get() == Some(self)
    }

    /// Plants one, or none, in what is run on this thread of the system.
    pub(crate) fn plant(fault: Option<Self>) {
        PLANTED.set(fault);
    }
}
