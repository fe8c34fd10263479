// Stock pusher-js against a broker, with an auth endpoint where there is one.
import assert from 'node:assert/strict';
import Pusher from 'pusher-js';
import { APP } from './broker.mjs';
import { next } from './waiting.mjs';

export { Pusher };

/**
 * A client that connects at once and leaves with the test. `user` is who the auth endpoint takes it for; `wish` asks that endpoint for
 * something unusual; every other option goes to pusher-js.
 */
export function client(t, broker, { key = APP.key, auth, user, wish, ...options } = {}) {
  const headers = { Authorization: `Bearer ${user}`, ...(wish && { 'X-Wish': wish }) };
  const endpoints = auth && {
    channelAuthorization: { endpoint: `${auth.url}/broadcasting/auth`, transport: 'ajax', headers },
    userAuthentication: { endpoint: `${auth.url}/broadcasting/user-auth`, transport: 'ajax', headers },
  };
  const pusher = new Pusher(key, {
    cluster: '',
    wsHost: '127.0.0.1',
    wsPort: broker.port,
    forceTLS: false,
    enabledTransports: ['ws'],
    ...endpoints,
    ...options,
  });
  pusher.states = [pusher.connection.state];
  pusher.errors = [];
  pusher.connection.bind('state_change', ({ current }) => pusher.states.push(current));
  pusher.connection.bind('error', (error) => pusher.errors.push(error));
  t.after(() => pusher.disconnect());
  return pusher;
}

export async function connected(pusher, options) {
  if (pusher.connection.state !== 'connected') await next(pusher.connection, 'connected', options);
  return pusher;
}

/** A client that is connected. */
export const connect = (t, broker, options) => connected(client(t, broker, options));

/** Subscribes and waits for the acknowledgement; a refusal rejects. */
export async function subscribed(pusher, name) {
  const channel = pusher.subscribe(name);
  if (channel.subscribed) return channel;
  await next(channel, 'pusher:subscription_succeeded', { unless: 'pusher:subscription_error' });
  return channel;
}

/** Subscribes and waits for the refusal. */
export async function refusedSubscription(pusher, name) {
  const channel = pusher.subscribe(name);
  const error = await next(channel, 'pusher:subscription_error');
  assert.equal(channel.subscribed, false);
  return error;
}

/** Signs in and waits until the user's own channel is there too. */
export async function signedIn(pusher) {
  pusher.signin();
  await next(pusher, 'pusher:signin_success');
  const own = pusher.user.serverToUserChannel;
  if (!own.subscribed) await next(own, 'pusher:subscription_succeeded');
  return pusher;
}

/** Waits for the answer to a ping of each: all that the broker had sent them before has been seen by their handlers then. */
export async function settled(...clients) {
  await Promise.all(clients.map(async (pusher) => {
    const pong = next(pusher, 'pusher:pong');
    pusher.send_event('pusher:ping', {});
    await pong;
  }));
}

/** The errors that the broker sent on a live connection. */
export const refusals = (pusher) => pusher.errors.filter(({ type }) => type === 'PusherError').map(({ data }) => data);
