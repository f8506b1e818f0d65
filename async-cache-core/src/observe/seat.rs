//! Seats: small numbers for the threads that live, each held by one thread at a time.

use std::cell::Cell;

use parking_lot::Mutex;

/// Seats that have been given back, and the lowest that was never taken.
static FREE: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

const NONE: usize = usize::MAX;

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(NONE) };
    static TAKEN: Taken = const { Taken };
}

/// Gives the seat back when its thread ends. Apart from the number, which is read without asking
/// whether it is still there.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        // What this thread counts from here on, in other destructors, goes to the shared cell.
        FREE.lock().0.push(MINE.replace(NONE - 1));
    }
}

/// This thread's seat, or a large number if it has none: then it should [`take`] one.
#[inline]
pub(super) fn mine() -> usize {
    MINE.get()
}

/// This thread's seat, taken if it has none yet; a large number if it is to have none any more.
#[cold]
pub(super) fn take() -> usize {
    if MINE.get() != NONE {
        return MINE.get();
    }
    let seat = {
        let mut free = FREE.lock();
        free.0.pop().unwrap_or_else(|| {
            free.1 += 1;
            free.1 - 1
        })
    };
    MINE.set(seat);
    if TAKEN.try_with(|_| ()).is_err() {
        // The thread is ending: there is nobody left to give it back.
        FREE.lock().0.push(MINE.replace(NONE - 1));
        return NONE - 1;
    }
    seat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_one_threads_and_is_given_back() {
        let (mine_here, there) = (take(), std::thread::spawn(take).join().unwrap());
        assert_ne!(mine_here, there);
        assert_eq!((mine_here, mine_here), (mine(), take()));
        // Other tests take seats too: some thread soon sits where that one sat.
        assert!((0..10_000).any(|_| std::thread::spawn(take).join().unwrap() == there));
    }
}
