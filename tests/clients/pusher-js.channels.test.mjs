// pusher-js: public, private, encrypted and cache channels, subscription counts, and what a refusal looks like.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { AuthServer } from './support/auth-server.mjs';
import { APP, Broker, app } from './support/broker.mjs';
import { connect, refusals, refusedSubscription, settled, subscribed } from './support/pusher-js.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { jsonOf, serverSdk } from './support/server-sdk.mjs';
import { collect, eventuallyEqual, next } from './support/waiting.mjs';

const COUNTING = app('counting', { subscription_count: true });
const UNAUTHORIZED = { type: 'AuthError', error: 'The connection is unauthorized.', status: 401 };

let broker, sdk, auth;

before(async () => {
  broker = await Broker.start({ apps: [APP, COUNTING] });
  sdk = serverSdk(broker);
  auth = await AuthServer.start(sdk);
});

after(async () => {
  await auth.stop();
  await broker.stop();
});

suite('public channels', () => {
  test('an event reaches its subscribers with name, channel and decoded data', async (t) => {
    const pusher = await connect(t, broker);
    const channel = await subscribed(pusher, 'news');
    const anywhere = collect(pusher, 'headline');
    const headline = next(channel, 'headline');
    await sdk.trigger('news', 'headline', { text: 'Zoë says "hi" / 🎉', n: 12345678901234 });
    assert.deepEqual(await headline, { text: 'Zoë says "hi" / 🎉', n: 12345678901234 });
    assert.deepEqual(anywhere, [{ text: 'Zoë says "hi" / 🎉', n: 12345678901234 }]);
  });

  test('data that is not JSON arrives as the string it was, also the empty one', async (t) => {
    const channel = await subscribed(await connect(t, broker), 'texts');
    const seen = collect(channel, 'text');
    for (const text of ['plain text', '', '  spaced  ', '{"half":']) await sdk.trigger('texts', 'text', text);
    await eventuallyEqual('the four texts', () => seen, ['plain text', '', '  spaced  ', '{"half":']);
  });

  test('every legal character is good in a name, and names are case-sensitive', async (t) => {
    const name = 'aZ09_-=@,.;';
    const pusher = await connect(t, broker);
    const seen = collect(await subscribed(pusher, name), 'event');
    const other = collect(await subscribed(pusher, name.toUpperCase()), 'event');
    await sdk.trigger(name, 'event', 1);
    await settled(pusher);
    assert.deepEqual([seen, other], [[1], []]);
  });

  test('all subscribers see one channel in the same order', async (t) => {
    const clients = await Promise.all([1, 2, 3].map(() => connect(t, broker)));
    const seen = await Promise.all(clients.map(async (pusher) => collect(await subscribed(pusher, 'ordered'), 'n')));
    const numbers = Array.from({ length: 50 }, (_, n) => n);
    for (const n of numbers) await sdk.trigger('ordered', 'n', n);
    await settled(...clients);
    assert.deepEqual(seen, [numbers, numbers, numbers]);
  });

  test('the excluded socket id gets nothing, everybody else does', async (t) => {
    const [sender, receiver] = [await connect(t, broker), await connect(t, broker)];
    const [mine, theirs] = [collect(await subscribed(sender, 'others'), 'e'), collect(await subscribed(receiver, 'others'), 'e')];
    await sdk.trigger('others', 'e', 'to others', { socket_id: sender.connection.socket_id });
    await sdk.trigger('others', 'e', 'to all');
    await settled(sender, receiver);
    assert.deepEqual([mine, theirs], [['to all'], ['to others', 'to all']]);
  });

  test('after unsubscribing nothing arrives; subscribing again works', async (t) => {
    const pusher = await connect(t, broker);
    const seen = collect(pusher, 'e');
    await subscribed(pusher, 'on-off');
    await sdk.trigger('on-off', 'e', 1);
    pusher.unsubscribe('on-off');
    await settled(pusher);
    await sdk.trigger('on-off', 'e', 2);
    await settled(pusher);
    await subscribed(pusher, 'on-off');
    await sdk.trigger('on-off', 'e', 3);
    await settled(pusher);
    assert.deepEqual(seen, [1, 3]);
  });

  test('a subscription that is cancelled and taken back in one breath stands', async (t) => {
    const pusher = await connect(t, broker);
    pusher.subscribe('hasty');
    pusher.unsubscribe('hasty');
    const seen = collect(await subscribed(pusher, 'hasty'), 'e');
    await sdk.trigger('hasty', 'e', 1);
    await settled(pusher);
    assert.deepEqual(seen, [1]);
  });
});

suite('private channels', () => {
  test('the auth endpoint is asked once with socket id and channel, and events arrive', async (t) => {
    auth.requests.length = 0;
    const pusher = await connect(t, broker, { auth, user: '42' });
    const seen = collect(await subscribed(pusher, 'private-orders.1'), 'paid');
    assert.deepEqual(auth.requests.map(({ path, form }) => ({ path, form })), [
      { path: '/broadcasting/auth', form: { socket_id: pusher.connection.socket_id, channel_name: 'private-orders.1' } },
    ]);
    await sdk.trigger('private-orders.1', 'paid', { id: 1 });
    await settled(pusher);
    assert.deepEqual(seen, [{ id: 1 }]);
  });

  test('a wrong signature is refused with 401 for that channel only, and nothing leaks', async (t) => {
    const pusher = await connect(t, broker, { auth, user: '42', wish: 'forge' });
    const leaked = collect(pusher, 'secret');
    assert.deepEqual(await refusedSubscription(pusher, 'private-forged'), UNAUTHORIZED);
    assert.deepEqual(await refusedSubscription(pusher, 'presence-forged'), UNAUTHORIZED);
    const open = collect(await subscribed(pusher, 'open-beside'), 'e');
    await sdk.trigger(['private-forged', 'presence-forged'], 'secret', 'x');
    await sdk.trigger('open-beside', 'e', 'still here');
    await settled(pusher);
    assert.deepEqual({ leaked, open, state: pusher.connection.state }, { leaked: [], open: ['still here'], state: 'connected' });
    const { channels } = await jsonOf(sdk.get({ path: '/channels', params: { filter_by_prefix: 'private-forged' } }));
    assert.deepEqual(channels, {}, 'a refused subscription occupies nothing');
  });

  test('a refusal by the application never reaches the broker', async (t) => {
    const pusher = await connect(t, broker, { auth, user: '42' });
    const error = await refusedSubscription(pusher, 'private-forbidden');
    assert.deepEqual([error.type, error.status], ['AuthError', 403]);
    assert.deepEqual(await jsonOf(sdk.get({ path: '/channels/private-forbidden' })), { occupied: false });
  });

  test('names that are illegal or too long are refused each with its own reason', async (t) => {
    const pusher = await connect(t, broker);
    assert.deepEqual(await refusedSubscription(pusher, 'with blank'), { type: 'InvalidChannel', error: 'Invalid channel name.', status: 4009 });
    assert.deepEqual(await refusedSubscription(pusher, 'x'.repeat(201)), {
      type: 'LimitReached',
      error: 'The channel name is longer than the allowed 200 characters.',
      status: 4009,
    });
    await subscribed(pusher, 'x'.repeat(200));
  });
});

suite('encrypted channels', () => {
  test('what the server SDK encrypts, pusher-js decrypts, and the broker carries unread', async (t) => {
    const pusher = await connect(t, broker, { auth, user: '42' });
    const raw = await RawSocket.established(t, broker);
    await raw.authorised(sdk, 'private-encrypted-vault');
    const opened = next(await subscribed(pusher, 'private-encrypted-vault'), 'deposit');
    await sdk.trigger('private-encrypted-vault', 'deposit', { gold: 'Zoë' });
    assert.deepEqual(await opened, { gold: 'Zoë' });
    const frame = await raw.frame('deposit');
    assert.equal(typeof frame.data, 'string');
    assert.deepEqual(Object.keys(JSON.parse(frame.data)).sort(), ['ciphertext', 'nonce']);
    assert.ok(!/Zoë|gold/.test(frame.data), 'the plain text is nowhere on the wire');
  });

  test('an encrypted cache channel gives the last ciphertext to a late subscriber', async (t) => {
    await sdk.trigger('private-encrypted-cache-vault', 'deposit', { gold: 7 });
    const pusher = await connect(t, broker, { auth, user: '42' });
    const missed = collect(pusher, 'pusher:cache_miss');
    const channel = pusher.subscribe('private-encrypted-cache-vault');
    assert.deepEqual(await next(channel, 'deposit'), { gold: 7 });
    assert.deepEqual(missed, []);
  });

  test('a forged signature for an encrypted channel is refused', async (t) => {
    const pusher = await connect(t, broker, { auth, user: '42', wish: 'forge' });
    assert.deepEqual(await refusedSubscription(pusher, 'private-encrypted-forged'), UNAUTHORIZED);
  });
});

suite('cache channels', () => {
  test('empty: cache_miss after the acknowledgement; then hit, also after everybody has left', async (t) => {
    const first = await connect(t, broker);
    const order = [];
    const channel = first.subscribe('cache-stock');
    channel.bind_global((event, data) => order.push([event, data]));
    await next(channel, 'pusher:cache_miss');
    assert.deepEqual(order, [['pusher:subscription_succeeded', {}], ['pusher:cache_miss', {}]]);
    await sdk.trigger('cache-stock', 'price', { v: 1 });
    await sdk.trigger('cache-stock', 'price', { v: 2 });
    first.unsubscribe('cache-stock');
    await settled(first);
    assert.deepEqual(await jsonOf(sdk.get({ path: '/channels/cache-stock' })), { occupied: false });

    const late = await connect(t, broker);
    const replay = [];
    const again = late.subscribe('cache-stock');
    again.bind_global((event, data) => replay.push([event, data]));
    await next(again, 'price');
    await settled(late);
    assert.deepEqual(replay, [['pusher:subscription_succeeded', {}], ['price', { v: 2 }]]);
  });

  test('a private cache channel asks for a signature; its client events are not cached', async (t) => {
    const liar = await connect(t, broker, { auth, user: '42', wish: 'forge' });
    assert.deepEqual(await refusedSubscription(liar, 'private-cache-stock'), UNAUTHORIZED);
    await sdk.trigger('private-cache-stock', 'price', { v: 1 });
    const [ada, bob] = [await connect(t, broker, { auth, user: '42' }), await connect(t, broker, { auth, user: '7' })];
    const [adas, bobs] = [await subscribed(ada, 'private-cache-stock'), await subscribed(bob, 'private-cache-stock')];
    const offered = next(bobs, 'client-offer');
    adas.trigger('client-offer', { v: 9 });
    assert.deepEqual(await offered, { v: 9 });
    const late = await connect(t, broker, { auth, user: '9' });
    const channel = late.subscribe('private-cache-stock');
    assert.deepEqual(await next(channel, 'price'), { v: 1 });
  });
});

suite('subscription counts', () => {
  test('every subscriber is told the number of connections as it changes', async (t) => {
    const options = { key: COUNTING.key };
    const [first, second] = [await connect(t, broker, options), await connect(t, broker, options)];
    const channel = first.subscribe('crowd');
    const counts = collect(channel, 'pusher:subscription_count');
    await eventuallyEqual('alone', () => counts, [{ subscription_count: 1 }]);
    const other = second.subscribe('crowd');
    await eventuallyEqual('two for both', () => [counts.at(-1), other.subscriptionCount], [{ subscription_count: 2 }, 2]);
    second.unsubscribe('crowd');
    await eventuallyEqual('alone again', () => counts.map((each) => each.subscription_count), [1, 2, 1]);
    assert.equal(channel.subscriptionCount, 1);
  });

  test('no counts on presence channels, and none where the option is off', async (t) => {
    const counting = serverSdk(broker, COUNTING);
    const raw = await RawSocket.established(t, broker, { key: COUNTING.key });
    await raw.authorised(counting, 'presence-crowd', { user_id: '1' });
    assert.deepEqual(await raw.drained(), []);
    const plain = await connect(t, broker);
    const counts = collect(await subscribed(plain, 'crowd'), 'pusher:subscription_count');
    await settled(plain);
    assert.deepEqual([counts, refusals(plain)], [[], []]);
  });
});
