use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_secs(5);

fn user(name: &str) -> Sender {
    Sender::User(name.into())
}

fn begin(receipts: &Arc<Receipts>, sender: &Sender, id: i64, now: Instant) -> Begun {
    receipts.begin(sender.clone(), ReceiptId::Number(id), WINDOW, now)
}

fn first(begun: Begun) -> Receipt {
    match begun {
        Begun::First(receipt) => receipt,
        other => panic!("{other:?}"),
    }
}

/// Delivers it; false if it is a duplicate.
fn deliver(receipts: &Arc<Receipts>, sender: &Sender, id: i64, now: Instant) -> bool {
    match begin(receipts, sender, id, now) {
        Begun::First(receipt) => {
            receipt.done(now);
            true
        }
        Begun::Duplicate => false,
        Begun::AtWork(_) => panic!("nobody is at work"),
    }
}

#[test]
fn what_was_delivered_is_a_duplicate_for_its_window_and_for_its_sender_alone() {
    let (receipts, now) = (Arc::<Receipts>::default(), Instant::now());
    let (ada, socket) = (user("ada"), Sender::Socket(SocketId::from_random(1)));
    assert!(deliver(&receipts, &ada, 1, now));
    assert!(!deliver(&receipts, &ada, 1, now));
    assert!(deliver(&receipts, &user("bob"), 1, now) && deliver(&receipts, &socket, 1, now) && deliver(&receipts, &ada, 2, now));
    assert!(
        !deliver(&receipts, &ada, 1, now + WINDOW - Duration::from_nanos(1)),
        "a duplicate does not make the window longer, or shorter"
    );
    assert!(deliver(&receipts, &ada, 1, now + WINDOW));
    receipts.expire(WINDOW, now + 2 * WINDOW);
    assert!(receipts.window.lock().senders.is_empty());
}

#[test]
fn what_was_refused_is_not_remembered() {
    let (receipts, now, ada) = (Arc::<Receipts>::default(), Instant::now(), user("ada"));
    drop(first(begin(&receipts, &ada, 1, now)));
    assert!(receipts.window.lock().senders.is_empty());
    assert!(deliver(&receipts, &ada, 1, now));
    drop(first(begin(&receipts, &ada, 2, now)));
    assert!(!deliver(&receipts, &ada, 1, now), "another id's refusal takes nothing away");
    assert_eq!(receipts.remembered(), 1);
}

#[test]
fn whoever_sends_it_meanwhile_waits_for_the_end_and_asks_again() {
    let (receipts, now, ada) = (Arc::<Receipts>::default(), Instant::now(), user("ada"));
    for delivered in [true, false] {
        let receipt = first(begin(&receipts, &ada, 1, now));
        let wait = || match begin(&receipts, &ada, 1, now) {
            Begun::AtWork(unfinished) => unfinished,
            other => panic!("{other:?}"),
        };
        let (mut second, mut third) = (wait(), wait());
        assert_eq!(((&mut second).now_or_never(), (&mut third).now_or_never()), (None, None));
        if delivered {
            receipt.done(now);
        } else {
            drop(receipt);
        }
        assert_eq!((second.now_or_never(), third.now_or_never()), (Some(()), Some(())));
        assert_eq!(matches!(begin(&receipts, &ada, 1, now), Begun::Duplicate), delivered);
        receipts.expire(WINDOW, now + WINDOW);
    }
}

#[test]
fn those_who_wait_are_woken_once() {
    struct Counter(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let (receipts, now, ada) = (Arc::<Receipts>::default(), Instant::now(), user("ada"));
    let receipt = first(begin(&receipts, &ada, 1, now));
    let Begun::AtWork(mut unfinished) = begin(&receipts, &ada, 1, now) else { panic!("it is at work") };
    let counter = Arc::new(Counter(Default::default()));
    let waker = Waker::from(Arc::clone(&counter));
    for _ in 0..3 {
        assert!(unfinished.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    }
    receipt.done(now);
    assert_eq!(counter.0.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn one_sender_has_its_bound_and_forgets_its_own_oldest() {
    let receipts = Arc::new(Receipts::bounded(Bounds { of_sender: 3, of_app: 100 }));
    let (now, ada, bob) = (Instant::now(), user("ada"), user("bob"));
    assert!(deliver(&receipts, &bob, 1, now));
    assert!((1..=4).all(|id| deliver(&receipts, &ada, id, now)));
    assert_eq!(receipts.forgotten(), 1);
    assert!(!deliver(&receipts, &bob, 1, now), "another sender's ids are not touched");
    assert!([2, 3, 4].iter().all(|id| !deliver(&receipts, &ada, *id, now)));
    assert!(deliver(&receipts, &ada, 1, now), "the oldest is new again");
}

#[test]
fn the_application_has_its_bound_whoever_sends() {
    let receipts = Arc::new(Receipts::bounded(Bounds { of_sender: 4, of_app: 10 }));
    let now = Instant::now();
    for sender in 0..1_000 {
        let sender = Sender::Socket(SocketId::from_random(sender));
        let kept = first(begin(&receipts, &sender, 0, now));
        assert!(deliver(&receipts, &sender, 1, now));
        drop(kept);
    }
    assert_eq!((receipts.remembered(), receipts.forgotten()), (10, 990));
    for id in 0..1_000 {
        assert!(deliver(&receipts, &user("ada"), id, now));
    }
    assert!(receipts.window.lock().order.len() <= 10 && receipts.remembered() <= 10);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Deliver { sender: u8, id: i64 },
    Refuse { sender: u8, id: i64 },
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8, 0..6_i64).prop_map(|(sender, id)| Step::Deliver { sender, id }),
        1 => (0..3_u8, 0..6_i64).prop_map(|(sender, id)| Step::Refuse { sender, id }),
        2 => (0..3_000_u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

proptest! {
    /// The window against a list of everything that was ever delivered.
    #[test]
    fn any_history_is_that_of_a_plain_list(steps in prop::collection::vec(step(), 0..200)) {
        let bounds = Bounds { of_sender: 4, of_app: 7 };
        let receipts = Arc::new(Receipts::bounded(bounds));
        let mut now = Instant::now();
        let mut list: Vec<(u8, i64, Instant)> = Vec::new();
        for step in steps {
            match step {
                Step::Pass { millis } => now += Duration::from_millis(millis),
                Step::Deliver { sender, id } | Step::Refuse { sender, id } => {
                    list.retain(|(.., at)| *at + WINDOW > now);
                    let known = list.iter().any(|(by, it, _)| (*by, *it) == (sender, id));
                    match begin(&receipts, &user(&sender.to_string()), id, now) {
                        Begun::Duplicate => {
                            prop_assert!(known, "{step:?} was never delivered, or too long ago");
                        }
                        Begun::First(receipt) => {
                            // Forgotten early at most as the bounds allow: what is still in the list is then not among the newest.
                            if known {
                                let own = list.iter().filter(|(by, ..)| *by == sender);
                                let newer = own.rev().take_while(|(_, it, _)| *it != id).count();
                                let newer_of_all = list.iter().rev().take_while(|(by, it, _)| (*by, *it) != (sender, id)).count();
                                prop_assert!(newer >= bounds.of_sender || newer_of_all >= bounds.of_app, "{step:?} was forgotten for nothing");
                            }
                            if let Step::Deliver { .. } = step {
                                receipt.done(now);
                                list.push((sender, id, now));
                            }
                        }
                        Begun::AtWork(_) => prop_assert!(false, "nobody is at work"),
                    }
                    prop_assert!(receipts.remembered() <= bounds.of_app);
                }
            }
        }
    }
}
