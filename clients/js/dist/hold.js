/// <reference lib="esnext.disposable" preserve="true" />
import { Grip } from './grip.js';
import { isEcho } from './pusher.js';
import { next } from './state.js';
/**
 * Subscribes to a channel whose subscription holds something, and says where the hold stands.
 *
 * `client` is a client of pusher-js, or a Laravel Echo with `broadcaster: 'pusher'` or `'reverb'`. `channel` is its name on the wire,
 * `private-order.42`; with an Echo, `order.42` means the private channel, as in `Echo.private('order.42')`.
 *
 * Call `pusher.signin()` before, if you sign in: the hold then waits for it, on each connection.
 */
export function hold(client, channel, options = {}) {
    return new ChannelHold(client, wireName(client, channel), options);
}
function wireName(client, channel) {
    if (typeof channel !== 'string' || channel === '')
        throw new TypeError('hold: the channel must be a name');
    if (channel.startsWith('private-encrypted-'))
        throw new TypeError(`hold: ${channel}: the broker has no locks on encrypted channels`);
    return isEcho(client) && !/^(private|presence)-/.test(channel) ? `private-${channel}` : channel;
}
class ChannelHold {
    channel;
    persistent;
    #echo;
    #grip;
    #listeners = new Set();
    #snapshot;
    #released;
    constructor(client, channel, { retry = false }) {
        this.channel = channel;
        this.persistent = retry;
        this.#echo = isEcho(client) ? client : undefined;
        this.#grip = Grip.on(isEcho(client) ? client.connector.pusher : client, channel);
        this.#snapshot = this.#grip.snapshot;
        this.#grip.join(this);
        // Echo has a table of its own, which `Echo.leave` looks into.
        if (channel.startsWith('presence-'))
            this.#echo?.join(channel.slice('presence-'.length));
        else
            this.#echo?.private(channel.slice('private-'.length));
        // For those who have been here it was free, or lost, or could not be had: this one has just asked. Who waits, waits.
        if (this.error?.type !== 'LockConflict')
            this.#grip.retry();
    }
    get snapshot() {
        return this.#snapshot;
    }
    get state() {
        return this.#snapshot.state;
    }
    get fence() {
        return this.#snapshot.fence;
    }
    get holder() {
        return this.#snapshot.holder;
    }
    get resource() {
        return this.#snapshot.resource;
    }
    get outcome() {
        return this.#snapshot.outcome;
    }
    get cause() {
        return this.#snapshot.cause;
    }
    get error() {
        return this.#snapshot.error;
    }
    onHeld(handler) {
        return this.#when('held', ({ resource, fence, holder, outcome }) => handler({ resource, fence, holder, outcome }));
    }
    onLost(handler) {
        return this.#when('lost', ({ resource, fence, cause }) => handler({ resource, fence, cause }));
    }
    onFree(handler) {
        return this.#when('free', () => handler());
    }
    onRefused(handler) {
        return this.#when('refused', ({ error }) => error && handler(error));
    }
    onState(handler) {
        // A function of its own: the same handler may be given twice.
        const listener = (now, before) => handler(now, before);
        this.#listeners.add(listener);
        return () => void this.#listeners.delete(listener);
    }
    retry() {
        if (!this.#released)
            this.#grip.retry();
    }
    release() {
        this.#released ??= this.#leave();
        return this.#released;
    }
    [Symbol.asyncDispose]() {
        return this.release();
    }
    tell(now, before) {
        this.#snapshot = now;
        for (const listener of [...this.#listeners]) {
            try {
                if (this.#listeners.has(listener))
                    listener(now, before);
            }
            catch (error) {
                // A handler that fails keeps nobody else from hearing of it.
                queueMicrotask(() => { throw error; });
            }
        }
        if (now.state === 'released')
            this.#forgetInEcho();
    }
    async #leave() {
        const left = this.#grip.leave(this);
        const [released] = next(this.#snapshot, { type: 'released' });
        if (released)
            this.tell(released, this.#snapshot);
        await left;
    }
    #when(state, handler) {
        const unsubscribe = this.onState((now, before) => now.state === state && handler(now, before));
        if (this.state !== state)
            return unsubscribe;
        let wanted = true;
        const already = this.#snapshot;
        queueMicrotask(() => wanted && this.#snapshot === already && handler(already, already));
        return () => {
            wanted = false;
            unsubscribe();
        };
    }
    /** Echo keeps channels by name, and would hand out this one again, which is dead. */
    #forgetInEcho() {
        if (this.#echo && this.#grip.ended)
            this.#echo.leaveChannel(this.channel);
    }
}
