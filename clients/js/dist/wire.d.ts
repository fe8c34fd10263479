/** `granted`: a new lock. `attached`: another tab of the same user has it, too. `resumed`: the lock from before, within its grace. */
export type Outcome = 'granted' | 'attached' | 'resumed';
/** `holdline:locked`, right after `pusher:subscription_succeeded`. */
export interface Locked {
    resource: string;
    fence: number;
    principal: string;
    outcome: Outcome;
}
/** `pusher:subscription_error`, of the broker or of pusher-js. */
export interface Refusal {
    /** `LockConflict`: somebody else has it. `LockUnavailable`: the broker cannot promise it now. `AuthError`: your auth endpoint said no. */
    readonly type: string;
    readonly error: string;
    readonly status?: number;
    readonly resource?: string;
    /** Who has it, with `show_holder`. */
    readonly holder?: string;
}
/** `holdline:lock_lost`. */
export interface LockLost {
    resource: string;
    fence: number;
    cause: string;
}
/** `holdline:lock_state`; `degraded` if the rule goes on without a lock. */
export interface LockState {
    resource: string;
    fence: number | null;
    state: 'held' | 'uncertain' | 'degraded';
}
/** `holdline:lock_free`. */
export interface LockFree {
    resource: string;
}
