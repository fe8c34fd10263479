// The server SDK of npm: every call, what comes of it on the wire, and every answer.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, suite, test } from 'node:test';
import { APP, Broker, app } from './support/broker.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { MASTER_KEY, jsonOf, refused, serverSdk, textOf } from './support/server-sdk.mjs';

const require = createRequire(import.meta.url);
const nacl = require('tweetnacl');

const TINY = app('tiny', { limits: { max_event_bytes: 64, max_channels_per_event: 3, max_batch: 2 } });

let broker, sdk;

before(async () => {
  broker = await Broker.start({ apps: [APP, TINY] });
  sdk = serverSdk(broker);
});

after(() => broker.stop());

const established = (t) => RawSocket.established(t, broker);
const post = (path, body) => sdk.post({ path, body });

/** A socket that is on all these channels. */
async function listener(t, ...channels) {
  const raw = await established(t);
  for (const channel of channels) {
    if (channel.startsWith('presence-')) await raw.authorised(sdk, channel, { user_id: raw.id });
    else if (channel.startsWith('private-')) await raw.authorised(sdk, channel);
    else await raw.subscribe(channel);
  }
  await raw.drained();
  return raw;
}

suite('trigger', () => {
  test('one channel: the frame carries name, channel and the string as it was given, and nothing else', async (t) => {
    const raw = await listener(t, 'project-3');
    const data = { some: 'data', z: 1, a: 'é/"' };
    assert.equal(await textOf(sdk.trigger('project-3', 'foo', data)), '{}');
    assert.deepEqual(await raw.drained(), [{ event: 'foo', channel: 'project-3', data: JSON.stringify(data) }]);
    await sdk.trigger('project-3', 'text', '  {"kept": "as it is" , "n":1.0}\n');
    assert.deepEqual(await raw.drained(), [{ event: 'text', channel: 'project-3', data: '  {"kept": "as it is" , "n":1.0}\n' }]);
  });

  test('many channels in the order of the list, once each, also to a subscriber of several', async (t) => {
    const raw = await listener(t, 'a', 'private-b', 'presence-c');
    await sdk.trigger(['presence-c', 'a', 'private-b', 'nobody-there'], 'e', 1);
    assert.deepEqual((await raw.drained()).map(({ channel }) => channel), ['presence-c', 'a', 'private-b']);
    await post('/events', { name: 'e', channels: ['a', 'a'], channel: 'a', data: 'x' });
    assert.equal((await raw.drained()).length, 1, 'a name given twice is delivered once');
  });

  test('socket_id is left out of it', async (t) => {
    const [mine, theirs] = [await listener(t, 'pair'), await listener(t, 'pair')];
    assert.equal(await textOf(sdk.trigger('pair', 'e', 1, { socket_id: mine.id })), '{}');
    assert.equal(await textOf(sdk.trigger('pair', 'f', 1, { socket_id: '1.1' })), '{}');
    assert.deepEqual((await mine.drained()).map(({ event }) => event), ['f']);
    assert.deepEqual((await theirs.drained()).map(({ event }) => event), ['e', 'f']);
  });

  test('a body with one channel, an empty string, and data that is no string', async (t) => {
    const raw = await listener(t, 'bodies');
    for (const data of ['', { b: [1, 2.5, null], a: 'ü' }, 12, null, false]) {
      assert.equal(await textOf(post('/events', { name: 'e', channel: 'bodies', data })), '{}');
    }
    assert.deepEqual((await raw.drained()).map(({ data }) => data), ['', '{"b":[1,2.5,null],"a":"ü"}', '12', 'null', 'false']);
  });

  test('info: the counts asked for, where they apply', async (t) => {
    await listener(t, 'news', 'presence-room');
    const raw = await established(t);
    await raw.authorised(sdk, 'presence-room', { user_id: '42' });
    const tab = await established(t);
    await tab.authorised(sdk, 'presence-room', { user_id: '42' });
    const answer = await jsonOf(sdk.trigger(['presence-room', 'news', 'empty'], 'e', 1, { info: 'user_count, subscription_count,,odd,cache' }));
    assert.deepEqual(answer, {
      channels: { 'presence-room': { user_count: 2, subscription_count: 3 }, news: { subscription_count: 1 }, empty: { subscription_count: 0 } },
    });
    assert.deepEqual(await jsonOf(sdk.trigger('news', 'e', 1, { info: 'user_count' })), { channels: { news: {} } });
  });

  test('encrypted: the ciphertext on the wire opens with the shared secret', async (t) => {
    const raw = await listener(t, 'private-encrypted-vault');
    await sdk.trigger('private-encrypted-vault', 'deposit', { gold: 7 });
    const [{ data }] = await raw.drained();
    const { nonce, ciphertext } = JSON.parse(data);
    const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));
    const opened = nacl.secretbox.open(bytes(ciphertext), bytes(nonce), sdk.channelSharedSecret('private-encrypted-vault'));
    assert.equal(Buffer.from(opened).toString(), '{"gold":7}');
    const vector = serverSdk(broker, APP, { encryptionMasterKeyBase64: MASTER_KEY }).channelSharedSecret('private-encrypted-vault');
    assert.equal(vector.toString('base64'), 'wp8Orjt2S4H4n8dDP7pa2A9reduRTTedbaiVnjqomsc=');
  });
});

suite('limits, each crossed', () => {
  const names = (n) => Array.from({ length: n }, (_, i) => `many-${i}`);

  test('100 channels, not 101; nothing is half published', async (t) => {
    const raw = await listener(t, 'many-0');
    assert.equal(await textOf(sdk.trigger(names(100), 'e', 1)), '{}');
    assert.equal((await raw.drained()).length, 1);
    assert.throws(() => sdk.trigger(names(101), 'e', 1), /more than 100 channels/, 'the SDK itself refuses');
    await refused(post('/events', { name: 'e', channels: names(101), data: '1' }), 400);
    await refused(post('/events', { name: 'e', channels: [], data: '1' }), 400);
    await refused(post('/events', { name: 'e', channels: [...names(5), 'bad name'], data: '1' }), 400, /^Invalid channel name/);
    assert.deepEqual(await raw.drained(), []);
  });

  test('10 events in a batch, not 11', async (t) => {
    const raw = await listener(t, 'batch');
    const batch = (n) => Array.from({ length: n }, (_, i) => ({ channel: 'batch', name: 'n', data: i }));
    assert.equal(await textOf(sdk.triggerBatch(batch(10))), '{}');
    assert.deepEqual((await raw.drained()).map(({ data }) => data), ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    await refused(sdk.triggerBatch(batch(11)), 400, /^Batch too large/);
    assert.equal(await textOf(sdk.triggerBatch([])), '{}');
    assert.deepEqual(await raw.drained(), []);
  });

  test('10 240 bytes of data after decoding, not one more', async (t) => {
    const raw = await listener(t, 'large');
    const tooLarge = /^The data content of this event exceeds the allowed maximum \(10240 bytes\)/;
    await sdk.trigger('large', 'e', 'x'.repeat(10240));
    await refused(sdk.trigger('large', 'e', 'x'.repeat(10241)), 413, tooLarge);
    await sdk.trigger('large', 'e', 'é'.repeat(5120));
    await refused(sdk.trigger('large', 'e', 'é'.repeat(5121)), 413, tooLarge);
    const item = (n) => ({ channel: 'large', name: 'e', data: 'x'.repeat(n) });
    await refused(sdk.triggerBatch([item(1), item(10241)]), 413, tooLarge);
    assert.deepEqual((await raw.drained()).map(({ data }) => Buffer.byteLength(data)), [10240, 10240]);
  });

  test('a full batch of full events is one accepted request', async (t) => {
    const raw = await listener(t, 'full');
    const batch = Array.from({ length: 10 }, (_, n) => ({ channel: 'full', name: `e${n}`, data: '"'.repeat(10240) }));
    assert.equal(await textOf(sdk.triggerBatch(batch)), '{}');
    assert.deepEqual((await raw.drained()).map(({ event, data }) => [event, data.length]), batch.map(({ name }) => [name, 10240]));
  });

  test('2 MB of body are too much', () => refused(post('/events', { name: 'e', channel: 'a', data: 'x'.repeat(2_000_000) }), 413));

  test('event names of 200 characters, not 201, none, or of the protocol', async (t) => {
    const raw = await listener(t, 'names');
    await sdk.trigger('names', 'App\\Events\\Order Shipped: "ünïcode"', 1);
    await sdk.trigger('names', 'é'.repeat(200), 1);
    assert.deepEqual((await raw.drained()).map(({ event }) => event), ['App\\Events\\Order Shipped: "ünïcode"', 'é'.repeat(200)]);
    for (const name of ['x'.repeat(201), 'pusher:error', 'pusher_internal:member_added', 5, undefined]) {
      await refused(post('/events', { name, channel: 'names', data: '1' }), 400);
    }
    assert.deepEqual(await raw.drained(), []);
  });

  test('channel names of 200 characters, not 201', async () => {
    assert.equal(await textOf(sdk.trigger('x'.repeat(200), 'e', 1)), '{}');
    for (const channel of ['x'.repeat(201), '', 'a b', 'a\n', 'é', '#server-to-nobody', 5]) {
      await refused(post('/events', { name: 'e', channel, data: '1' }), 400);
    }
  });

  test('the limits of one application are its own', async () => {
    const tiny = serverSdk(broker, TINY);
    await tiny.trigger(['a', 'b', 'c'], 'e', 'x'.repeat(64));
    await refused(tiny.trigger('a', 'e', 'x'.repeat(65)), 413, /\(64 bytes\)/);
    await refused(tiny.trigger(['a', 'b', 'c', 'd'], 'e', '1'), 400);
    await refused(tiny.triggerBatch([1, 2, 3].map((n) => ({ channel: 'a', name: 'e', data: n }))), 400, /^Batch too large/);
  });
});

suite('batch', () => {
  test('items go each their way, with their own exclusion, and answer in order when one asks', async (t) => {
    const [one, two] = [await listener(t, 'a', 'presence-b'), await listener(t, 'a')];
    const answer = await jsonOf(sdk.triggerBatch([
      { channel: 'a', name: 'e1', data: '1' },
      { channel: 'presence-b', name: 'e2', data: { x: true }, socket_id: one.id, info: 'user_count,subscription_count' },
      { channel: 'a', name: 'e3', data: 3, socket_id: one.id },
    ]));
    assert.deepEqual(answer, { batch: [{}, { user_count: 1, subscription_count: 1 }, {}] });
    assert.deepEqual(await one.drained(), [{ event: 'e1', channel: 'a', data: '1' }]);
    assert.deepEqual((await two.drained()).map(({ event, data }) => [event, data]), [['e1', '1'], ['e3', '3']]);
  });

  test('one bad item and nothing at all is published', async (t) => {
    const raw = await listener(t, 'a');
    const good = { channel: 'a', name: 'e', data: '1' };
    for (const bad of [{ ...good, channel: 'bad name' }, { ...good, socket_id: 'x' }, { ...good, name: '' }, { channel: 'a', name: 'e' }]) {
      await refused(post('/batch_events', { batch: [good, bad] }), 400);
    }
    assert.deepEqual(await raw.drained(), []);
  });
});

suite('reads', () => {
  /** A broker where nobody else is; `enter` opens one connection on the given channels, each with its user id where it has members. */
  async function quiet(t) {
    const own = await Broker.during(t);
    const calls = serverSdk(own);
    const enter = async (...channels) => {
      const raw = await RawSocket.established(t, own);
      for (const [channel, user_id] of channels) await raw.authorised(calls, channel, user_id && { user_id });
    };
    return { calls, enter, read: (path, params) => calls.get({ path, params }), get: (path, params) => jsonOf(calls.get({ path, params })) };
  }

  test('channels: an object, filter and info', async (t) => {
    const { enter, read, get } = await quiet(t);
    assert.equal(await textOf(read('/channels')), '{"channels":{}}');
    await enter(['presence-room', '42'], ['presence-x', '42'], ['private-a'], ['open']);
    await enter(['presence-room', '7'], ['open']);
    assert.deepEqual(await get('/channels'), { channels: { 'presence-room': {}, 'presence-x': {}, 'private-a': {}, open: {} } });
    assert.deepEqual(await get('/channels', { filter_by_prefix: 'presence-', info: 'user_count' }), {
      channels: { 'presence-room': { user_count: 2 }, 'presence-x': { user_count: 1 } },
    });
    assert.deepEqual(await get('/channels', { filter_by_prefix: 'o', info: 'subscription_count' }), { channels: { open: { subscription_count: 2 } } });
    assert.deepEqual(await get('/channels', { filter_by_prefix: 'O' }), { channels: {} });
    const text = /^user_count may only be requested for presence channels/;
    await refused(read('/channels', { info: 'user_count' }), 400, text);
    await refused(read('/channels', { info: 'user_count', filter_by_prefix: 'presence' }), 400, text);
    await refused(read('/channels', { info: 'cache' }), 400);
    assert.equal((await get('/connections')).connections, 2);
  });

  test('one channel: occupied or not, counts and the cache, never 404', async (t) => {
    const { calls, enter, read, get } = await quiet(t);
    await enter(['presence-room', '42'], ['open']);
    await enter(['presence-room', '42']);
    assert.deepEqual(await get('/channels/presence-room', { info: 'user_count,subscription_count' }), { occupied: true, user_count: 1, subscription_count: 2 });
    assert.deepEqual(await get('/channels/open', { info: 'subscription_count,unknown' }), { occupied: true, subscription_count: 1 });
    assert.equal(await textOf(read('/channels/nobody')), '{"occupied":false}');
    assert.deepEqual(await get('/channels/presence-nobody', { info: 'user_count,subscription_count' }), { occupied: false, user_count: 0, subscription_count: 0 });
    await refused(read('/channels/open', { info: 'user_count' }), 400);
    await refused(read('/channels/bad%20name'), 400);
    assert.deepEqual(await get('/channels/cache-stock', { info: 'cache' }), { occupied: false, cache: null });
    await calls.trigger('cache-stock', 'price', { v: 1 });
    const { occupied, cache } = await get('/channels/cache-stock', { info: 'cache' });
    assert.deepEqual([occupied, cache.data], [false, '{"v":1}']);
    assert.ok(cache.ttl > 1790 && cache.ttl <= 1800, `ttl ${cache.ttl}`);
    assert.deepEqual(await get('/channels/open', { info: 'cache' }), { occupied: true });
  });

  test('users of presence channels only', async (t) => {
    const { enter, read, get } = await quiet(t);
    await enter(['presence-room', '42']);
    await enter(['presence-room', '42'], ['presence-solo', 'a=b']);
    await enter(['presence-room', '7']);
    const { users } = await get('/channels/presence-room/users');
    assert.deepEqual(users.sort((a, b) => a.id.localeCompare(b.id)), [{ id: '42' }, { id: '7' }]);
    assert.equal(await textOf(read('/channels/presence-solo/users')), '{"users":[{"id":"a=b"}]}');
    assert.equal(await textOf(read('/channels/presence-nobody/users')), '{"users":[]}');
    await refused(read('/channels/news/users'), 400, /^Users can only be retrieved for presence channels/);
  });
});
