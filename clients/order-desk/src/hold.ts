// Where this tab stands with the order it has open. A function of what it did and what it was told, and nothing else.
import type { LockLost, LockState, Locked, Outcome, Refusal } from './wire.ts';

export type Hold =
  | { is: 'closed' }
  | { is: 'opening' }
  | { is: 'held'; fence: number; principal: string; outcome: Outcome; certain: boolean }
  /** Open, but without a lock: the rule goes on without the store, or there is no rule. */
  | { is: 'unlocked'; degraded: boolean }
  /** Somebody else has it; the broker will say when it is free. */
  | { is: 'waiting'; holder: string | undefined }
  | { is: 'free' }
  | { is: 'lost'; fence: number; cause: string }
  | { is: 'refused'; refusal: Refusal }
  /** The connection is gone; what was held before is remembered, because it may not be ours any more. */
  | { is: 'offline'; why: Offline; fence: number | undefined; since: number };

/** Whether the connection broke, or somebody pulled the plug. */
export type Offline = 'broken' | 'unplugged';

export type Signal =
  | { type: 'open' }
  | { type: 'close' }
  | { type: 'locked'; data: Locked }
  | { type: 'error'; data: Refusal }
  | { type: 'no_rule' }
  | { type: 'lock_free' }
  | { type: 'lock_lost'; data: LockLost }
  | { type: 'lock_state'; data: LockState }
  | { type: 'down'; why: Offline; at: number }
  | { type: 'up' };

export function next(hold: Hold, signal: Signal): Hold {
  switch (signal.type) {
    case 'open':
      return { is: 'opening' };
    case 'close':
      return { is: 'closed' };
    case 'locked': {
      const { fence, principal, outcome } = signal.data;
      return { is: 'held', fence, principal, outcome, certain: true };
    }
    case 'no_rule':
      return hold.is === 'opening' ? { is: 'unlocked', degraded: false } : hold;
    case 'error':
      return signal.data.type === 'LockConflict' ? { is: 'waiting', holder: signal.data.holder } : { is: 'refused', refusal: signal.data };
    case 'lock_free':
      return hold.is === 'waiting' ? { is: 'free' } : hold;
    case 'lock_lost': {
      const { fence, cause } = signal.data;
      return hold.is === 'held' && hold.fence === fence ? { is: 'lost', fence, cause } : hold;
    }
    case 'lock_state':
      if (signal.data.state === 'degraded') return { is: 'unlocked', degraded: true };
      return hold.is === 'held' && hold.fence === signal.data.fence ? { ...hold, certain: signal.data.state === 'held' } : hold;
    case 'down':
      switch (hold.is) {
        case 'opening':
        case 'waiting':
        case 'unlocked':
        case 'held':
        case 'offline':
          return { is: 'offline', why: signal.why, fence: fenceOf(hold), since: hold.is === 'offline' ? hold.since : signal.at };
        default:
          return hold;
      }
    case 'up':
      // pusher-js subscribes again by itself.
      return hold.is === 'offline' ? { is: 'opening' } : hold;
  }
}

/** The fence this tab has been given, whether or not it still counts. */
export function fenceOf(hold: Hold): number | undefined {
  return 'fence' in hold ? hold.fence : undefined;
}
