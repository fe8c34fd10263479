// The connection of this tab: Laravel Echo and pusher-js as any application uses them, and the ways in which it can break.
import Echo from 'laravel-echo';
import Pusher, { type Channel } from 'pusher-js';
import * as api from './api.ts';
import type { Signal } from './hold.ts';
import type { Identity, LockLost, LockState, Locked, Refusal } from './wire.ts';

export type LineState = 'connecting' | 'connected' | 'disconnected' | 'unplugged';

interface LineOptions {
  key: string;
  /** Who sits here. */
  person: string;
  identity: Identity;
  onState: (state: LineState) => void;
}

/** What channels of pusher-js have and do not declare. */
type Inner = Channel & { disconnect(): void; subscribe(): void };

type Answer<T> = (error: Error | null, data: T | null) => void;

export class Line {
  readonly #options: LineOptions;
  readonly #wire = crypto.getRandomValues(new Uint32Array(3)).join('-');
  readonly #echo: Echo<'pusher'>;
  readonly #pusher: Pusher;
  #unplugged = false;
  #broken = false;
  #open: { id: number; channel: Inner; refused: boolean } | undefined;

  constructor(options: LineOptions) {
    this.#options = options;
    const port = Number(location.port) || 80;
    this.#echo = new Echo({
      broadcaster: 'pusher',
      Pusher,
      key: options.key,
      cluster: '',
      wsHost: location.hostname,
      wsPort: port,
      wssPort: port,
      // Yours has no such path: here, the sockets run through a wire that can be cut.
      wsPath: `/desk/wire/${this.#wire}`,
      forceTLS: false,
      enabledTransports: ['ws'],
      channelAuthorization: {
        transport: 'ajax',
        endpoint: '/desk/auth',
        customHandler: ({ socketId, channelName }, answer) => void this.#authorize(socketId, channelName, answer),
      },
      userAuthentication: {
        transport: 'ajax',
        endpoint: '/desk/user-auth',
        headers: {},
        customHandler: ({ socketId }, answer) => void settle(api.authenticate(socketId, options.person), answer),
      },
    });
    this.#pusher = this.#echo.connector.pusher;
    if (options.identity === 'signin') this.#pusher.signin();
    this.#pusher.connection.bind('state_change', this.#onChange);
    // When a connection breaks, pusher-js goes on saying "connected" for the second until it tries again. It does say this:
    this.#pusher.connection.bind('connecting_in', this.#onBreak);
  }

  get state(): LineState {
    if (this.#unplugged) return 'unplugged';
    const { state } = this.#pusher.connection;
    if (state === 'connected') return this.#broken ? 'connecting' : 'connected';
    return state === 'initialized' || state === 'connecting' ? 'connecting' : 'disconnected';
  }

  /** What the broker calls this tab while it names nobody. */
  get socketId(): string | undefined {
    return this.state === 'connected' ? this.#pusher.connection.socket_id : undefined;
  }

  /** Opening an order is subscribing to its channel, and nothing else. */
  open(id: number, tell: (signal: Signal) => void): void {
    this.leave();
    tell({ type: 'open' });
    const channel = this.#echo.private(`order.${id}`);
    const open = { id, channel: channel.subscription as Inner, refused: false };
    this.#open = open;
    open.channel.unbind_all();
    channel
      .subscribed(() => {
        open.refused = false;
        // The lock is named right behind. If none is, there is none.
        setTimeout(() => this.#open === open && channel.subscription.subscribed && tell({ type: 'no_rule' }), 500);
      })
      .error((data: Refusal) => {
        open.refused = true;
        tell({ type: 'error', data });
      })
      .listen('.holdline:locked', (data: Locked) => tell({ type: 'locked', data }))
      .listen('.holdline:lock_free', () => tell({ type: 'lock_free' }))
      .listen('.holdline:lock_lost', (data: LockLost) => tell({ type: 'lock_lost', data }))
      .listen('.holdline:lock_state', (data: LockState) => tell({ type: 'lock_state', data }));
  }

  /** Closing an order is unsubscribing: a goodbye, so there is no grace. */
  leave(): void {
    if (!this.#open) return;
    const { id, channel, refused } = this.#open;
    this.#open = undefined;
    channel.unbind_all();
    // pusher-js takes a subscription that the broker refused for one that is still on its way: it would keep the channel, and
    // subscribe to it again with the next connection. A channel that is told of a disconnect is let go.
    const forget = (): void => {
      channel.disconnect();
      this.#pusher.unsubscribe(channel.name);
    };
    if (refused) forget();
    else if (!channel.subscribed) channel.bind('pusher:subscription_error', forget);
    this.#echo.leave(`order.${id}`);
  }

  /** Nothing passes any more, in neither direction, and nobody is told. */
  async unplug(): Promise<void> {
    await api.cut(this.#wire, 'silence');
    this.#unplugged = true;
    this.#pusher.disconnect();
    this.#options.onState(this.state);
  }

  plugIn(): void {
    this.#unplugged = false;
    this.#pusher.connect();
  }

  /** The connection breaks in the middle of whatever it was doing; pusher-js is back a second later. */
  async reset(): Promise<void> {
    await api.cut(this.#wire, 'reset');
  }

  /** The broker is back: pusher-js would find out by itself, but only after a while. */
  wake(): void {
    if (this.#unplugged || this.state === 'connected') return;
    this.#pusher.disconnect();
    this.#pusher.connect();
  }

  /** Says goodbye. */
  end(): void {
    this.leave();
    this.#pusher.connection.unbind('state_change', this.#onChange);
    this.#pusher.connection.unbind('connecting_in', this.#onBreak);
    // pusher-js sends a little later, but closes at once: the goodbye would never leave.
    setTimeout(() => this.#pusher.disconnect());
  }

  readonly #onChange = (): void => {
    this.#broken = false;
    this.#options.onState(this.state);
  };

  readonly #onBreak = (): void => {
    this.#broken = true;
    this.#options.onState(this.state);
  };

  async #authorize(socketId: string, channel: string, answer: Answer<{ auth: string; channel_data?: string }>): Promise<void> {
    const { identity, person } = this.#options;
    // Whoever signs in waits for it: a subscription that arrives before would be the socket's.
    if (identity === 'signin') await this.#pusher.user.signinDonePromise;
    // Another connection has come meanwhile, and asks for itself.
    if (this.#pusher.connection.socket_id !== socketId) return;
    await settle(api.authorize(socketId, channel, identity === 'channel' ? person : ''), answer);
  }
}

const settle = <T>(asked: Promise<T>, answer: Answer<T>): Promise<void> =>
  asked.then(
    (data) => answer(null, data),
    (error: Error) => answer(error, null),
  );
