//! How often one address may knock, before anything is done for it.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Addresses that have been quiet are forgotten after so many knocks.
const FORGET_EVERY: u32 = 4_096;

/// The handshakes of each address. One for all workers.
#[derive(Debug, Default)]
pub(crate) struct Doorkeeper {
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    knocks: AtomicU32,
}

impl Doorkeeper {
    /// `per_second` handshakes, and as many at once; 0 is no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let quota = NonZeroU32::new(per_second).map(Quota::per_second);
        Self { limiter: quota.map(RateLimiter::keyed), knocks: AtomicU32::new(0) }
    }

    /// Whether this address may go on.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        if self.knocks.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        limiter.check_key(&household(address)).is_ok()
    }
}

/// Whoever has one IPv6 address has a /64 of them.
pub(crate) fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_and_an_ipv6_network_is_one() {
        let door = Doorkeeper::new(2);
        let admitted = |address: &str| (0..5).filter(|_| door.admits(ip(address))).count();
        assert_eq!((admitted("127.0.0.1"), admitted("127.0.0.2")), (2, 2));
        assert_eq!((admitted("2001:db8::1"), admitted("2001:db8::ffff:1"), admitted("2001:db8:0:1::1")), (2, 0, 2));
        assert_eq!(admitted("::ffff:127.0.0.1"), 0, "the same address in other clothes");
        assert!((0..10_000).all(|_| Doorkeeper::new(0).admits(ip("127.0.0.1"))));
    }

    #[test]
    fn who_knocks_once_is_forgotten() {
        let door = Doorkeeper::new(1_000_000);
        for n in 0..3 * FORGET_EVERY {
            door.admits(IpAddr::V4(n.into()));
        }
        assert!(door.limiter.as_ref().is_some_and(|limiter| limiter.len() < 2 * FORGET_EVERY as usize));
    }
}
