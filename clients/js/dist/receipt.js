import { isEcho } from './pusher.js';
/** A client event that was refused, with the `code` of the refusal; or that nobody has answered: it may have been delivered. */
export class NotDelivered extends Error {
    id;
    code;
    name = 'NotDelivered';
    constructor(message, id, code) {
        super(message);
        this.id = id;
        this.code = code;
    }
}
/**
 * Sends a client event, and again over a bad line or a new connection, until the broker says that it was delivered: `ok`, or `dup`, if an
 * earlier attempt had got through. It is delivered once. The application needs `receipts = true` and `client_events = true`, and
 * `channel`, by its name on the wire, a subscription.
 *
 * Rejects with {@link NotDelivered}.
 */
export function sendWithReceipt(client, channel, event, data, { id = randomId(), within = 4500, every = 1000 } = {}) {
    if (!event.startsWith('client-'))
        throw new TypeError(`sendWithReceipt: ${event} does not begin with client-`);
    const pusher = isEcho(client) ? client.connector.pusher : client;
    const { connection, user } = pusher;
    const frame = JSON.stringify({ event, channel, data, id });
    return new Promise((resolve, reject) => {
        const finish = () => {
            clearInterval(resending);
            clearTimeout(deadline);
            connection.unbind('message', hear);
        };
        const hear = (message) => {
            if (message.event !== 'holdline:ack' || message.channel !== channel || message.data.id !== id)
                return;
            finish();
            const { status, code, message: reason = 'refused' } = message.data;
            if (status === 'error')
                reject(new NotDelivered(reason, id, code));
            else
                resolve(status);
        };
        const send = () => {
            // After a reconnect the subscription comes first, and the sign-in: what a user has sent is known by the user.
            const ready = pusher.channel(channel)?.subscribed && (!user?.signin_requested || user.user_data);
            if (ready)
                connection.send(frame);
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
const randomId = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('');
