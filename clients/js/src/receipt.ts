import { type EchoLike, type PusherLike, isEcho } from './pusher.js';

export interface ReceiptOptions {
  /** What a resend is recognised by: a string of 1 to 64 bytes, or an integer. Default: a random one. */
  readonly id?: string | number;
  /** Milliseconds after which it is given up. Stay below the broker's `receipt_window`. Default: 4500. */
  readonly within?: number;
  /** Milliseconds between resends. Default: 1000. */
  readonly every?: number;
}

/** A client event that was refused, with the `code` of the refusal; or that nobody has answered: it may have been delivered. */
export class NotDelivered extends Error {
  override readonly name = 'NotDelivered';

  constructor(
    message: string,
    readonly id: string | number,
    readonly code: number | undefined,
  ) {
    super(message);
  }
}

interface Receipt {
  id: string | number;
  status: 'ok' | 'dup' | 'error';
  code?: number;
  message?: string;
}

/**
 * Sends a client event, and again over a bad line or a new connection, until the broker says that it was delivered: `ok`, or `dup`, if an
 * earlier attempt had got through. It is delivered once. The application needs `receipts = true` and `client_events = true`, and
 * `channel`, by its name on the wire, a subscription.
 *
 * Rejects with {@link NotDelivered}.
 */
export function sendWithReceipt(
  client: PusherLike | EchoLike,
  channel: string,
  event: string,
  data: unknown,
  { id = randomId(), within = 4500, every = 1000 }: ReceiptOptions = {},
): Promise<'ok' | 'dup'> {
  if (!event.startsWith('client-')) throw new TypeError(`sendWithReceipt: ${event} does not begin with client-`);
  const pusher = isEcho(client) ? client.connector.pusher : client;
  const { connection, user } = pusher;
  const frame = JSON.stringify({ event, channel, data, id });
  return new Promise((resolve, reject) => {
    const finish = (): void => {
      clearInterval(resending);
      clearTimeout(deadline);
      connection.unbind('message', hear);
    };
    const hear = (message: { event: string; channel?: string; data: Receipt }): void => {
      if (message.event !== 'holdline:ack' || message.channel !== channel || message.data.id !== id) return;
      finish();
      const { status, code, message: reason = 'refused' } = message.data;
      if (status === 'error') reject(new NotDelivered(reason, id, code));
      else resolve(status);
    };
    const send = (): void => {
      // After a reconnect the subscription comes first, and the sign-in: what a user has sent is known by the user.
      const ready = pusher.channel(channel)?.subscribed && (!user?.signin_requested || user.user_data);
      if (ready) connection.send(frame);
    };
    const resending = setInterval(send, every);
    const deadline = setTimeout(() => {
      finish();
      reject(new NotDelivered(`no answer to ${event} within ${within} ms: it may have been delivered`, id, undefined));
    }, within);
    connection.bind('message', hear);
    send();
  });
}

/** `crypto.randomUUID` is for pages over HTTPS only. */
const randomId = (): string => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('');
