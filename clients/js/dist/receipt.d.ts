import { type EchoLike, type PusherLike } from './pusher.js';
export interface ReceiptOptions {
    /** What a resend is recognised by: a string of 1 to 64 bytes, or an integer. Default: a random one. */
    readonly id?: string | number;
    /** Milliseconds after which it is given up. Stay below the broker's `receipt_window`. Default: 4500. */
    readonly within?: number;
    /** Milliseconds between resends. Default: 1000. */
    readonly every?: number;
}
/** A client event that was refused, with the `code` of the refusal; or that nobody has answered: it may have been delivered. */
export declare class NotDelivered extends Error {
    readonly id: string | number;
    readonly code: number | undefined;
    readonly name = "NotDelivered";
    constructor(message: string, id: string | number, code: number | undefined);
}
/**
 * Sends a client event, and again over a bad line or a new connection, until the broker says that it was delivered: `ok`, or `dup`, if an
 * earlier attempt had got through. It is delivered once. The application needs `receipts = true` and `client_events = true`, and
 * `channel`, by its name on the wire, a subscription.
 *
 * Rejects with {@link NotDelivered}.
 */
export declare function sendWithReceipt(client: PusherLike | EchoLike, channel: string, event: string, data: unknown, { id, within, every }?: ReceiptOptions): Promise<'ok' | 'dup'>;
