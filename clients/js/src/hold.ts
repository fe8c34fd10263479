/// <reference lib="esnext.disposable" preserve="true" />
import { Grip, type Member } from './grip.js';
import { type EchoLike, type PusherLike, isEcho } from './pusher.js';
import { type Snapshot, type State, next } from './state.js';
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
export function hold(client: PusherLike | EchoLike, channel: string, options: HoldOptions = {}): Hold {
  return new ChannelHold(client, wireName(client, channel), options);
}

function wireName(client: PusherLike | EchoLike, channel: string): string {
  if (typeof channel !== 'string' || channel === '') throw new TypeError('hold: the channel must be a name');
  if (channel.startsWith('private-encrypted-')) throw new TypeError(`hold: ${channel}: the broker has no locks on encrypted channels`);
  return isEcho(client) && !/^(private|presence)-/.test(channel) ? `private-${channel}` : channel;
}

type Listener = (now: Snapshot, before: Snapshot) => void;

class ChannelHold implements Hold, Member {
  readonly channel: string;
  readonly persistent: boolean;
  readonly #echo: EchoLike | undefined;
  readonly #grip: Grip;
  readonly #listeners = new Set<Listener>();
  #snapshot: Snapshot;
  #released: Promise<void> | undefined;

  constructor(client: PusherLike | EchoLike, channel: string, { retry = false }: HoldOptions) {
    this.channel = channel;
    this.persistent = retry;
    this.#echo = isEcho(client) ? client : undefined;
    this.#grip = Grip.on(isEcho(client) ? client.connector.pusher : client, channel);
    this.#snapshot = this.#grip.snapshot;
    this.#grip.join(this);
    // Echo has a table of its own, which `Echo.leave` looks into.
    if (channel.startsWith('presence-')) this.#echo?.join(channel.slice('presence-'.length));
    else this.#echo?.private(channel.slice('private-'.length));
    // For those who have been here it was free, or lost, or could not be had: this one has just asked. Who waits, waits.
    if (this.error?.type !== 'LockConflict') this.#grip.retry();
  }

  get snapshot(): Snapshot {
    return this.#snapshot;
  }

  get state(): State {
    return this.#snapshot.state;
  }

  get fence(): number | undefined {
    return this.#snapshot.fence;
  }

  get holder(): string | undefined {
    return this.#snapshot.holder;
  }

  get resource(): string | undefined {
    return this.#snapshot.resource;
  }

  get outcome(): Outcome | undefined {
    return this.#snapshot.outcome;
  }

  get cause(): string | undefined {
    return this.#snapshot.cause;
  }

  get error(): Refusal | undefined {
    return this.#snapshot.error;
  }

  onHeld(handler: (held: Held) => void): Unsubscribe {
    return this.#when('held', ({ resource, fence, holder, outcome }) => handler({ resource, fence, holder, outcome } as Held));
  }

  onLost(handler: (lost: Lost) => void): Unsubscribe {
    return this.#when('lost', ({ resource, fence, cause }) => handler({ resource, fence, cause } as Lost));
  }

  onFree(handler: () => void): Unsubscribe {
    return this.#when('free', () => handler());
  }

  onRefused(handler: (refusal: Refusal) => void): Unsubscribe {
    return this.#when('refused', ({ error }) => error && handler(error));
  }

  onState(handler: Listener): Unsubscribe {
    // A function of its own: the same handler may be given twice.
    const listener: Listener = (now, before) => handler(now, before);
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  retry(): void {
    if (!this.#released) this.#grip.retry();
  }

  release(): Promise<void> {
    this.#released ??= this.#leave();
    return this.#released;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  tell(now: Snapshot, before: Snapshot): void {
    this.#snapshot = now;
    for (const listener of [...this.#listeners]) {
      try {
        if (this.#listeners.has(listener)) listener(now, before);
      } catch (error) {
        // A handler that fails keeps nobody else from hearing of it.
        queueMicrotask(() => { throw error; });
      }
    }
    if (now.state === 'released') this.#forgetInEcho();
  }

  async #leave(): Promise<void> {
    const left = this.#grip.leave(this);
    const [released] = next(this.#snapshot, { type: 'released' });
    if (released) this.tell(released, this.#snapshot);
    await left;
  }

  #when(state: State, handler: Listener): Unsubscribe {
    const unsubscribe = this.onState((now, before) => now.state === state && handler(now, before));
    if (this.state !== state) return unsubscribe;
    let wanted = true;
    const already = this.#snapshot;
    queueMicrotask(() => wanted && this.#snapshot === already && handler(already, already));
    return () => {
      wanted = false;
      unsubscribe();
    };
  }

  /** Echo keeps channels by name, and would hand out this one again, which is dead. */
  #forgetInEcho(): void {
    if (this.#echo && this.#grip.ended) this.#echo.leaveChannel(this.channel);
  }
}
