// One channel of one client, and what all of its holds share: a subscription is a hold, and pusher-js has one subscription per channel.
import { type Answer, type ChannelLike, type Emitter, type PusherLike, settled } from './pusher.js';
import { INITIAL, type Signal, type Snapshot, next } from './state.js';
import type { LockFree, LockLost, LockState, Locked, Refusal } from './wire.js';

/** How long after a `LockUnavailable` it is asked again, at least; up to twice that, so that not everybody comes back at once. */
const UNAVAILABLE_RETRY_MS = 2_000;

export interface Member {
  /** It wants to have it as soon as it can be had. */
  readonly persistent: boolean;
  tell(snapshot: Snapshot, before: Snapshot): void;
}

const grips = new WeakMap<PusherLike, Map<string, Grip>>();

export class Grip {
  snapshot: Snapshot = INITIAL;
  readonly #pusher: PusherLike;
  readonly #channel: ChannelLike;
  readonly #members = new Set<Member>();
  readonly #undo: (() => void)[] = [];
  /** Which asking is the current one: what comes of an older one is not sent any more. */
  #turn = 0;
  /** Whether the current asking has left. */
  #asked = false;
  /** Somebody took it, or it is free and nobody asked: a new connection does not ask by itself. */
  #idle = false;
  #ended = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #forget: () => void;

  /** The grip on this channel that there is, or a new one. */
  static on(pusher: PusherLike, name: string): Grip {
    let channels = grips.get(pusher);
    if (!channels) grips.set(pusher, (channels = new Map()));
    const known = channels.get(name);
    if (known) return known;
    const grip = new Grip(pusher, name, () => channels.delete(name));
    channels.set(name, grip);
    return grip;
  }

  private constructor(pusher: PusherLike, name: string, forget: () => void) {
    this.#pusher = pusher;
    this.#forget = forget;
    this.#channel = pusher.channels.add(name, pusher);
    this.#listen();
    this.#instrument();
    this.#ask();
  }

  /** Nothing comes of it any more. */
  get ended(): boolean {
    return this.#ended;
  }

  join(member: Member): void {
    this.#members.add(member);
  }

  /** The last one out gives the lock back. Resolves when the broker has read it. */
  async leave(member: Member): Promise<void> {
    this.#members.delete(member);
    if (this.#members.size > 0 || this.#ended) return;
    const owed = this.#channel.subscribed || this.#asked;
    this.#end();
    // A subscription that was refused, or is on its way, is "pending" for pusher-js: it would keep the channel, and subscribe to it
    // again with the next connection. A channel that is told of a disconnect is let go, and then the goodbye is ours to say.
    this.#channel.disconnect();
    this.#pusher.unsubscribe(this.#channel.name);
    if (!owed) return;
    this.#sayGoodbye();
    await settled(this.#pusher);
  }

  retry(): void {
    const { state } = this.snapshot;
    if (this.#ended || state === 'pending' || state === 'held' || state === 'uncertain') return;
    this.#ask();
  }

  #ask(): void {
    clearTimeout(this.#timer);
    this.#idle = false;
    // Subscribed already, by somebody before us or without a lock: the lock is told once, with the subscription that takes it.
    if (this.#channel.subscribed) this.#sayGoodbye();
    this.#channel.disconnect();
    this.#pusher.subscribe(this.#channel.name);
    this.#signal({ type: 'asking' });
  }

  #listen(): void {
    const { connection } = this.#pusher;
    this.#on(this.#channel, 'holdline:locked', (data: Locked) => this.#signal({ type: 'locked', data }));
    this.#on(this.#channel, 'holdline:lock_lost', (data: LockLost) => this.#signal({ type: 'lost', data }));
    this.#on(this.#channel, 'holdline:lock_state', (data: LockState) => this.#signal({ type: 'state', data }));
    this.#on(this.#channel, 'holdline:lock_free', (_: LockFree) => this.#signal({ type: 'free' }));
    this.#on(this.#channel, 'pusher:subscription_error', (data: Refusal) => this.#signal({ type: 'refused', data }));
    this.#on(this.#channel, 'pusher:subscription_succeeded', () => {
      const turn = this.#turn;
      // The lock is named right behind. If it is not there before the answer to a ping, there is none.
      void settled(this.#pusher).then((answered) => answered && this.#turn === turn && this.#signal({ type: 'no_lock' }));
    });
    this.#on(connection, 'connecting_in', () => this.#signal({ type: 'broken' }));
    this.#on(connection, 'state_change', ({ current }: { current: string }) => {
      if (current === 'disconnected' || current === 'failed') this.#signal({ type: 'disconnected' });
      else if (current !== 'connected') this.#signal({ type: 'broken' });
    });
    // Bound after pusher-js's own handler, which has subscribed again by now.
    this.#on(connection, 'connected', () => {
      if (this.#pusher.channel(this.#channel.name) !== this.#channel) this.#abandoned();
      else if (!this.#idle) this.#signal({ type: 'asking' });
    });
  }

  #on(emitter: Emitter, event: string, run: (data: any) => void): void {
    emitter.bind(event, run);
    this.#undo.push(() => emitter.unbind(event, run));
  }

  /** What pusher-js tells nobody, it tells its channels: when it asks for authorization, and when it is done with the channel. */
  #instrument(): void {
    const channel = this.#channel;
    const { authorize, unsubscribe, cancelSubscription } = channel;
    channel.authorize = (socketId, answer) => void this.#authorize(socketId, answer, authorize.bind(channel));
    channel.unsubscribe = () => {
      unsubscribe.call(channel);
      this.#asked = false;
      this.#abandoned();
    };
    channel.cancelSubscription = () => {
      cancelSubscription.call(channel);
      this.#abandoned();
    };
    this.#undo.push(() => Object.assign(channel, { unsubscribe, cancelSubscription }));
  }

  async #authorize(socketId: string, answer: Answer, ask: ChannelLike['authorize']): Promise<void> {
    const turn = ++this.#turn;
    this.#asked = false;
    const { user, connection } = this.#pusher;
    const wanted = (): boolean => turn === this.#turn && !this.#ended && !this.#idle && connection.socket_id === socketId;
    // Whoever signs in waits for it, after each reconnect, too: a subscription that comes first would be the socket's and not the user's.
    if (user?.signin_requested) await user.signinDonePromise;
    if (!wanted()) return;
    ask(socketId, (error, data) => {
      if (!wanted()) return;
      this.#asked = !error;
      answer(error, data);
    });
  }

  /** Somebody else has unsubscribed: that was the lock. */
  #abandoned(): void {
    if (this.#ended) return;
    this.#end();
    this.#channel.disconnect();
    if (this.#pusher.channel(this.#channel.name) === this.#channel) this.#pusher.unsubscribe(this.#channel.name);
    if (this.#asked) this.#sayGoodbye();
    this.#become(next(this.snapshot, { type: 'released' }));
  }

  #sayGoodbye(): void {
    this.#pusher.send_event('pusher:unsubscribe', { channel: this.#channel.name });
  }

  #end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    for (const undo of this.#undo.splice(0)) undo();
    this.#forget();
  }

  #signal(signal: Signal): void {
    if (!this.#ended) this.#become(next(this.snapshot, signal));
  }

  #become(snapshots: Snapshot[]): void {
    for (const snapshot of snapshots) {
      const before = this.snapshot;
      this.snapshot = snapshot;
      this.#idle = snapshot.state === 'free' || (snapshot.state === 'lost' && snapshot.cause !== 'disconnected');
      for (const member of [...this.#members]) member.tell(snapshot, before);
      // A handler may have gone on already.
      if (this.snapshot !== snapshot) return;
    }
    if (snapshots.length > 0) this.#goOn();
  }

  #goOn(): void {
    clearTimeout(this.#timer);
    if (![...this.#members].some(({ persistent }) => persistent)) return;
    if (this.snapshot.state === 'free') this.#ask();
    // Nobody will say when that is over.
    if (this.snapshot.error?.type === 'LockUnavailable') {
      this.#timer = setTimeout(() => this.retry(), UNAVAILABLE_RETRY_MS * (1 + Math.random()));
    }
  }
}
