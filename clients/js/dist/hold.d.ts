/// <reference lib="esnext.disposable" preserve="true" />
import { type EchoLike, type PusherLike } from './pusher.js';
import { type Snapshot } from './state.js';
import type { Outcome, Refusal } from './wire.js';
/** Takes a handler away again. */
export type Unsubscribe = () => void;
export interface HoldOptions {
    /**
     * Asks again by itself: at once when it is free, and every few seconds while the broker cannot promise it (`LockUnavailable`).
     * What was lost is not asked for again: that is for `retry()`. Default: false.
     */
    readonly retry?: boolean;
}
export interface Held {
    readonly resource: string;
    readonly fence: number;
    /** You, as the broker knows you: `user:7`. */
    readonly holder: string;
    readonly outcome: Outcome;
}
export interface Lost {
    readonly resource: string | undefined;
    readonly fence: number;
    readonly cause: string;
}
/** Something that a subscription holds. Made by {@link hold}. */
export interface Hold extends Snapshot {
    /** The channel, by its name on the wire. */
    readonly channel: string;
    /** All of the above at one moment; the same object until something changes. */
    readonly snapshot: Snapshot;
    /** It is yours, or surely yours again. A new `fence` means that somebody else may have had it in between. */
    onHeld(handler: (held: Held) => void): Unsubscribe;
    /** It is not yours any more. */
    onLost(handler: (lost: Lost) => void): Unsubscribe;
    /** Somebody else had it, and has not any more. */
    onFree(handler: () => void): Unsubscribe;
    /** You cannot have it now. */
    onRefused(handler: (refusal: Refusal) => void): Unsubscribe;
    /** Every change from now on. The other four are also called, soon, if that is how things stand already. */
    onState(handler: (now: Snapshot, before: Snapshot) => void): Unsubscribe;
    /** Asks again, when it was refused, is free or lost, or when there was no lock. */
    retry(): void;
    /**
     * Unsubscribes, which gives the lock back at once, unless another hold of this client is on the same channel. Resolves when the broker
     * has read it, or there is no connection; never rejects. May be called twice.
     */
    release(): Promise<void>;
    /** `release()`, for `await using`. */
    [Symbol.asyncDispose](): Promise<void>;
}
/**
 * Subscribes to a channel whose subscription holds something, and says where the hold stands.
 *
 * `client` is a client of pusher-js, or a Laravel Echo with `broadcaster: 'pusher'` or `'reverb'`. `channel` is its name on the wire,
 * `private-order.42`; with an Echo, `order.42` means the private channel, as in `Echo.private('order.42')`.
 *
 * Call `pusher.signin()` before, if you sign in: the hold then waits for it, on each connection.
 */
export declare function hold(client: PusherLike | EchoLike, channel: string, options?: HoldOptions): Hold;
