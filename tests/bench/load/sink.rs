//! Who is told what the generator's sockets receive.

/// On the hot path nothing is copied.
pub(crate) trait Sink {
    /// One message. `false`: it is not of the load; it becomes a signal.
    fn text(&mut self, socket: usize, message: &[u8], now: u64) -> bool;
    /// The answer to the request of a lane; a refusal never comes here.
    fn response(&mut self, _lane: usize, _now: u64) {}
}

/// For phases in which nothing is published.
pub(crate) struct Quiet;

impl Sink for Quiet {
    fn text(&mut self, _: usize, _: &[u8], _: u64) -> bool {
        false
    }
}
