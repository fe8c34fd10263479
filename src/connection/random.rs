//! Random bits for socket ids: asked of the system for several connections at a time, since each time is a system call.

use std::cell::RefCell;

/// One id.
const BITS: usize = size_of::<u128>();
/// Ids of one system call.
const AT_ONCE: usize = 32;

thread_local! {
    /// What this worker has left.
    static LEFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bits that nobody else has, and nobody can guess.
///
/// # Errors
/// The system has none.
pub(super) fn bits() -> Result<u128, getrandom::Error> {
    LEFT.with_borrow_mut(|left| {
        if left.is_empty() {
            let mut fresh = vec![0; BITS * AT_ONCE];
            getrandom::fill(&mut fresh)?;
            *left = fresh;
        }
        let rest = left.len() - BITS;
        let mut bits = [0; BITS];
        bits.copy_from_slice(&left[rest..]);
        left.truncate(rest);
        Ok(u128::from_ne_bytes(bits))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_bits_come_twice() {
        let some = || (0..AT_ONCE * 3 + 1).map(|_| bits().unwrap()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(some)).collect();
        let all: Vec<u128> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert!(all.iter().all(|bits| *bits != 0));
    }
}
