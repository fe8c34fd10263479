use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Ask { socket: u8, principal: u8, mode: Mode, if_taken: IfTaken },
    End { socket: u8, ending: Ending },
    Wait { ms: i64 },
    SetClockBack { ms: i64 },
    Force { nth: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![3 => Just(Mode::Exclusive), 2 => Just(Mode::Shared)];
    let if_taken = prop_oneof![2 => Just(IfTaken::Deny), 1 => Just(IfTaken::TakeIfInGrace), 1 => Just(IfTaken::Take)];
    prop_oneof![
        6 => (0u8..6, 0u8..3, mode, if_taken).prop_map(|(socket, principal, mode, if_taken)| Step::Ask { socket, principal, mode, if_taken }),
        5 => (0u8..6, prop_oneof![Just(Ending::Clean), Just(Ending::Unclean)]).prop_map(|(socket, ending)| Step::End { socket, ending }),
        3 => (0i64..700).prop_map(|ms| Step::Wait { ms }),
        1 => (0i64..5000).prop_map(|ms| Step::SetClockBack { ms }),
        1 => (0usize..4).prop_map(|nth| Step::Force { nth }),
    ]
}

/// One resource, driven through the functions under test.
#[derive(Default)]
struct Machine {
    locks: BTreeMap<i64, (LiveLock, i64, Option<Timestamp>)>,
    holds: BTreeMap<u8, i64>,
    next_fence: i64,
    now: i64,
    log: Vec<(i64, bool)>,
}

impl Machine {
    fn ask(&mut self, socket: u8, principal: &str, mode: Mode, if_taken: IfTaken, grace_ms: i64) -> Option<Verdict> {
        let live: Vec<_> =
            self.locks.values().filter(|(lock, ..)| lock.state != LockState::Released).map(|(lock, ..)| lock.clone()).collect();
        let verdict = decide(&live, Ask { mode, principal, if_taken });
        match &verdict {
            None => {}
            Some(Verdict::Attach(fence) | Verdict::Resume(fence)) => {
                let (lock, _, until) = self.locks.get_mut(&fence.0).unwrap();
                (lock.state, *until) = (LockState::Held, None);
                self.holds.insert(socket, fence.0);
            }
            Some(Verdict::Grant { displaced }) => {
                for fence in displaced {
                    self.holds.retain(|_, held| *held != fence.0);
                    self.release(fence.0);
                }
                self.next_fence += 1;
                let lock = LiveLock { fence: Fence(self.next_fence), mode, principal: principal.to_owned(), state: LockState::Held };
                self.locks.insert(self.next_fence, (lock, grace_ms, None));
                self.holds.insert(socket, self.next_fence);
                self.log.push((self.next_fence, true));
            }
        }
        verdict
    }

    fn release(&mut self, fence: i64) {
        let (lock, _, until) = self.locks.get_mut(&fence).unwrap();
        (lock.state, *until) = (LockState::Released, None);
        self.log.push((fence, false));
    }

    fn end(&mut self, socket: u8, ending: Ending) {
        let Some(fence) = self.holds.remove(&socket) else { return };
        self.settle(fence, ending);
    }

    fn settle(&mut self, fence: i64, ending: Ending) {
        let left = self.holds.values().filter(|held| **held == fence).count() as u64;
        let (lock, grace_ms, until) = self.locks.get_mut(&fence).unwrap();
        match settle(lock.state, left, ending, *grace_ms) {
            Some(LockState::Grace) => (lock.state, *until) = (LockState::Grace, Some(Timestamp(self.now + *grace_ms))),
            Some(LockState::Released) => self.release(fence),
            Some(LockState::Held) => panic!("nothing settles to held"),
            None => {}
        }
    }

    fn sweep(&mut self) {
        let fences: Vec<i64> = self.locks.keys().copied().collect();
        for fence in fences {
            let (_, grace_ms, until) = self.locks.get_mut(&fence).unwrap();
            let Some(end) = *until else { continue };
            match look(end, *grace_ms, Timestamp(self.now)) {
                GraceLook::Running => {}
                GraceLook::Clamped(earlier) => *until = Some(earlier),
                GraceLook::Over => self.release(fence),
            }
        }
    }

    fn check(&self) {
        let live: Vec<_> = self.locks.values().filter(|(lock, ..)| lock.state != LockState::Released).collect();
        let exclusive = live.iter().filter(|(lock, ..)| lock.mode == Mode::Exclusive).count();
        assert!(exclusive == 0 || live.len() == 1, "an exclusive lock is alone");
        let owners: BTreeSet<_> = live.iter().map(|(lock, ..)| &lock.principal).collect();
        assert_eq!(owners.len(), live.len(), "one lock per principal");
        for (fence, (lock, grace_ms, until)) in &self.locks {
            let holds = self.holds.values().filter(|held| *held == fence).count();
            match lock.state {
                LockState::Held => assert!(holds > 0, "held by nobody"),
                LockState::Grace => assert!(holds == 0 && *grace_ms > 0),
                LockState::Released => assert!(holds == 0, "a hold on a lock that is over"),
            }
            assert_eq!(lock.state == LockState::Grace, until.is_some());
            let begun = self.log.iter().filter(|entry| **entry == (*fence, true)).count();
            let ended = self.log.iter().filter(|entry| **entry == (*fence, false)).count();
            assert_eq!((begun, ended), (1, usize::from(lock.state == LockState::Released)), "one Locked, one Unlocked when it is over");
        }
        let mut last = 0;
        for (fence, begins) in &self.log {
            if *begins {
                assert!(*fence > last, "fences rise");
                last = *fence;
            }
        }
    }
}

/// Who may hold what, said without locks: a principal owns the resource from its first connection until it has let go.
fn model_allows(machine: &Machine, principal: &str, mode: Mode, if_taken: IfTaken) -> bool {
    let others = machine.locks.values().filter(|(lock, ..)| lock.state != LockState::Released).filter(|(lock, ..)| {
        let own = lock.principal == principal && lock.mode == mode;
        let together = lock.mode == Mode::Shared && mode == Mode::Shared;
        !own && !together
    });
    let mut in_the_way: Vec<_> = others.map(|(lock, ..)| lock.state).collect();
    match if_taken {
        IfTaken::Take => true,
        IfTaken::TakeIfInGrace => {
            in_the_way.retain(|state| *state != LockState::Grace);
            in_the_way.is_empty()
        }
        IfTaken::Deny => in_the_way.is_empty(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_rules_and_ends_with_everything_released(
        steps in proptest::collection::vec(step(), 1..60),
        grace_ms in prop_oneof![Just(0i64), Just(300)],
    ) {
        let mut machine = Machine { now: 10_000, ..Machine::default() };
        for step in steps {
            match step {
                Step::Ask { socket, .. } if machine.holds.contains_key(&socket) => {}
                Step::Ask { socket, principal, mode, if_taken } => {
                    let principal = format!("user:{principal}");
                    let allowed = model_allows(&machine, &principal, mode, if_taken);
                    let verdict = machine.ask(socket, &principal, mode, if_taken, grace_ms);
                    prop_assert_eq!(verdict.is_some(), allowed);
                }
                Step::End { socket, ending } => machine.end(socket, ending),
                Step::Wait { ms } => {
                    machine.now += ms;
                    machine.sweep();
                }
                Step::SetClockBack { ms } => machine.now -= ms,
                Step::Force { nth } => {
                    if let Some(fence) = machine.locks.keys().copied().nth(nth) {
                        machine.holds.retain(|_, held| *held != fence);
                        machine.settle(fence, Ending::Clean);
                    }
                }
            }
            machine.check();
        }
        for socket in 0..6 {
            machine.end(socket, Ending::Unclean);
        }
        // However the clock was set, two looks one grace apart are enough.
        machine.sweep();
        machine.now += grace_ms;
        machine.sweep();
        machine.check();
        prop_assert!(machine.locks.values().all(|(lock, ..)| lock.state == LockState::Released));
    }
}

#[test]
fn nothing_leaves_released() {
    for ending in [Ending::Clean, Ending::Unclean] {
        for grace_ms in [0, 300] {
            assert_eq!(settle(LockState::Released, 0, ending, grace_ms), None);
        }
    }
}
