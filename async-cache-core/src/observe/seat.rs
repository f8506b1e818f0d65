//! Seats: small numbers for the running threads. Each seat belongs to one thread at a time.

use std::cell::Cell;

use parking_lot::Mutex;

/// The seats that threads have returned, and the lowest seat that was never taken.
static FREE: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

const NONE: usize = usize::MAX;

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(NONE) };
    static TAKEN: Taken = const { Taken };
}

/// Returns the seat when its thread ends. It is separate from the number, so that reading the number needs no
/// check whether the thread-local value still exists.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        // Counts that this thread makes after this point, in other destructors, go to the shared cell.
        FREE.lock().0.push(MINE.replace(NONE - 1));
    }
}

/// The seat of this thread, or a large number if it has none. Then the caller should [`take`] one.
#[inline]
pub(super) fn mine() -> usize {
    MINE.get()
}

/// Takes a seat for this thread if it has none. The result is a large number if the thread is ending.
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
        // The thread is ending, and `Taken` will not return the seat.
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
        // Other tests take seats, too. After some tries a thread gets the returned seat.
        assert!((0..10_000).any(|_| std::thread::spawn(take).join().unwrap() == there));
    }
}
