// What is used of pusher-js, as a shape: whichever build of it, and whichever Echo, the application has.

type Handler = (data?: any) => void;

export interface Emitter {
  bind(event: string, handler: Handler): unknown;
  unbind(event?: string, handler?: Handler): unknown;
}

export type Answer = (error: Error | null, data: any) => void;

/** A channel of pusher-js. */
export interface ChannelLike extends Emitter {
  readonly name: string;
  subscribed: boolean;
  authorize(socketId: string, answer: Answer): void;
  unsubscribe(): void;
  cancelSubscription(): void;
  disconnect(): void;
}

/** A client of pusher-js. */
export interface PusherLike extends Emitter {
  connection: Emitter & { state: string; socket_id: string; send(frame: string): unknown };
  channels: { add(name: string, pusher: any): any };
  user: { signin_requested: boolean; signinDonePromise: Promise<unknown>; user_data: unknown };
  channel(name: string): any;
  subscribe(name: string): any;
  unsubscribe(name: string): void;
  send_event(event: string, data: any, channel?: string): boolean;
}

/** A Laravel Echo with `broadcaster: 'pusher'` or `'reverb'`. */
export interface EchoLike {
  connector: { pusher: PusherLike };
  private(channel: string): unknown;
  join(channel: string): unknown;
  leaveChannel(channel: string): void;
}

export const isEcho = (client: PusherLike | EchoLike): client is EchoLike => 'connector' in client;

/** Pings of ours that are not answered yet. */
const asked = new WeakMap<PusherLike, number>();

/** Resolves with true when the broker has read, and answered, all that was sent to it; with false when there is no connection any more. */
export function settled(pusher: PusherLike): Promise<boolean> {
  const { connection } = pusher;
  if (connection.state !== 'connected') return Promise.resolve(false);
  return new Promise((resolve) => {
    // Answers come in the order of the pings: those of earlier ones say nothing of what was sent since.
    let earlier = asked.get(pusher) ?? 0;
    asked.set(pusher, earlier + 1);
    const finish = (answered: boolean): void => {
      asked.set(pusher, (asked.get(pusher) ?? 1) - 1);
      pusher.unbind('pusher:pong', answer);
      connection.unbind('state_change', gone);
      connection.unbind('connecting_in', gone);
      resolve(answered);
    };
    const answer = (): void => {
      if (earlier === 0) finish(true);
      earlier -= 1;
    };
    const gone = (): void => finish(false);
    pusher.bind('pusher:pong', answer);
    connection.bind('state_change', gone);
    // A connection that broke goes on calling itself connected until pusher-js tries again, a second later.
    connection.bind('connecting_in', gone);
    if (!pusher.send_event('pusher:ping', {})) gone();
  });
}
