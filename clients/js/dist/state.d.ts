import type { LockLost, LockState, Locked, Outcome, Refusal } from './wire.js';
/**
 * - `pending`: asked for, or about to be, as soon as there is a connection.
 * - `held`: yours; `fence` is what you save with.
 * - `uncertain`: it was yours a moment ago, and the connection, or the broker's database, is away. It becomes `held` again or `lost`.
 * - `refused`: `error` says why. With `LockConflict` somebody else has it, and `free` follows when they have not.
 * - `free`: it was refused, and is free now; `retry()` asks again.
 * - `lost`: it was yours and is not any more; `cause` says why.
 * - `unguarded`: subscribed, but there is no lock: no rule of the broker is for this channel, or it goes on without its database.
 * - `released`: given back, by `release()` or by an unsubscription. Final.
 */
export type State = 'pending' | 'held' | 'uncertain' | 'refused' | 'free' | 'lost' | 'unguarded' | 'released';
/** A hold at one moment. It never changes: there is a new one instead. */
export interface Snapshot {
    readonly state: State;
    /** The last fence that was given, lost or not: a save that comes too late is then refused, and not let through for want of one. */
    readonly fence: number | undefined;
    /** Who has it: you, such as `user:7`, while it is held; who is in the way, while it is refused and the broker says who. */
    readonly holder: string | undefined;
    /** What is held, such as `order:42`, once the broker has said so. */
    readonly resource: string | undefined;
    /** How it came to be held. */
    readonly outcome: Outcome | undefined;
    /** Why it was lost: a cause of the log, or `not_resumed` (gone while the connection was), or `disconnected` (you ended the connection). */
    readonly cause: string | undefined;
    /** Why it was refused. */
    readonly error: Refusal | undefined;
}
export type Signal = {
    type: 'asking';
} | {
    type: 'locked';
    data: Locked;
} | {
    type: 'refused';
    data: Refusal;
} | {
    type: 'free';
} | {
    type: 'lost';
    data: LockLost;
} | {
    type: 'state';
    data: LockState;
}
/** The subscription succeeded, and no lock came with it. */
 | {
    type: 'no_lock';
}
/** The connection broke; pusher-js will connect again. */
 | {
    type: 'broken';
}
/** The connection was ended, and nobody will connect again by itself. */
 | {
    type: 'disconnected';
} | {
    type: 'released';
};
export declare const INITIAL: Snapshot;
/** What follows, in order: usually one thing, none if nothing changes, two if a lock was lost unseen and something else came of it. */
export declare function next(now: Snapshot, signal: Signal): Snapshot[];
