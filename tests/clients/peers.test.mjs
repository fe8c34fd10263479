// Faults that other brokers have had and that a client can see, one test each, where no other suite has it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Broker } from './support/broker.mjs';
import { connect, settled, subscribed } from './support/pusher-js.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { jsonOf, serverSdk } from './support/server-sdk.mjs';
import { always, collect, eventually, eventuallyEqual } from './support/waiting.mjs';

let broker, sdk;

before(async () => {
  broker = await Broker.start();
  sdk = serverSdk(broker);
});

after(() => broker.stop());

test('a consumer that does not read is closed with 4100 and logged once; the others miss nothing', async (t) => {
  const narrow = await Broker.during(t, { server: { outbox_size: '256KiB' } });
  const calls = serverSdk(narrow);
  const count = async () => (await jsonOf(calls.get({ path: '/connections' }))).connections;
  const [reader, sleeper] = [await RawSocket.established(t, narrow), await RawSocket.established(t, narrow)];
  for (const raw of [reader, sleeper]) await raw.subscribe('flood');
  sleeper.socket.pause();

  const filler = 'x'.repeat(10_000);
  let [sent, taken] = [0, 0];
  reader.socket.on('message', () => (taken += 1));
  while ((await count()) === 2) {
    assert.ok(sent < 6000, 'more than any kernel buffers, and the sleeper is still there');
    await calls.triggerBatch(Array.from({ length: 10 }, () => ({ channel: 'flood', name: 'n', data: { n: sent++, filler } })));
    // Who reads must not fall behind, only because this machine is busy.
    await eventually('the reader keeps up', () => taken === sent);
  }

  const numbers = (raw) => raw.frames.filter(({ event }) => event === 'n').map(({ data }) => JSON.parse(data).n);
  const upTo = (n) => Array.from({ length: n }, (_, i) => i);
  await eventuallyEqual('the reader has all', () => numbers(reader), upTo(sent));
  sleeper.socket.resume();
  await eventually('the close', () => sleeper.closed);
  assert.equal(sleeper.closed.code, 4100);
  const got = numbers(sleeper);
  assert.deepEqual(got, upTo(got.length), 'no gap before the end');
  assert.ok(got.length < sent);
  await eventuallyEqual('it is logged', () => narrow.messages().filter((text) => /slow consumer/i.test(text)).length, 1);
});

test('a silent peer without any subscription is pinged, and closed with 4201 when it does not answer', async (t) => {
  const quick = await Broker.during(t, { server: { ping_interval: '500ms', pong_timeout: '4s' } });
  const idle = await connect(t, quick);
  const dead = await RawSocket.established(t, quick, { autoPong: false });
  let pings = 0;
  dead.socket.on('ping', () => (pings += 1));
  await dead.refusal(4201, 'Pong reply not received in time');
  assert.equal(pings, 1);
  // Which was there before, and as silent.
  await settled(idle);
  assert.deepEqual(idle.states, ['connecting', 'connected'], 'one that answers stays');
});

test('any inbound frame is a sign of life: a client that only ever sends control frames, or only events', async (t) => {
  const quick = await Broker.during(t, { server: { ping_interval: '500ms', pong_timeout: '4s' } });
  const [swift, java] = [await RawSocket.established(t, quick, { autoPong: false }), await RawSocket.established(t, quick, { autoPong: false })];
  const beat = setInterval(() => {
    swift.socket.ping('abc');
    java.send('{"event": "pusher:ping"}');
  }, 200);
  t.after(() => clearInterval(beat));
  const pongs = [];
  swift.socket.on('pong', (data) => pongs.push(data.toString()));
  await always('both stay', () => swift.closed === null && java.closed === null, { during: 6000 });
  assert.ok(pongs.length >= 5 && pongs.every((data) => data === 'abc'), 'a PING is answered with its payload');
  assert.deepEqual(swift.frames, [], 'and with no text frame');
  assert.deepEqual(java.frames[0], { event: 'pusher:pong', data: '{}' });
});

test('odd frames are told in-band, and neither the connection nor anybody else suffers', async (t) => {
  const bystander = await connect(t, broker);
  const seen = collect(await subscribed(bystander, 'beside'), 'e');
  const raw = await RawSocket.established(t, broker);
  const odd = [
    'not json', '[]', '""', 'null', '{}', '{"event":1}', '{"event":null}', '{"event":"pusher:subscribe"}',
    '{"event":"pusher:subscribe","data":{}}', '{"event":"pusher:subscribe","data":{"channel":7}}', '{"event":"pusher:unsubscribe","data":{}}',
    '{"event":"pusher:nonsense","data":{}}', '{"event":"pusher_internal:member_added","channel":"a","data":"{}"}', '{"event":"my-event","data":{}}',
    `${'['.repeat(3000)}`,
  ];
  for (const frame of odd) {
    raw.send(frame);
    const { data } = await raw.frame('pusher:error');
    assert.equal(data.code, 4300, frame.slice(0, 80));
    assert.doesNotMatch(data.message, /line \d+|column \d+|expected|serde|invalid type|recursion/, 'the words of a parser are not for clients');
  }
  assert.deepEqual(await raw.drained(), []);
  await sdk.trigger('beside', 'e', 1);
  await settled(bystander);
  assert.deepEqual([seen, bystander.errors, raw.closed], [[1], [], null]);
});

test('subscribing twice is acknowledged twice, counted and delivered once; unsubscribing from nothing is nothing', async (t) => {
  const raw = await RawSocket.established(t, broker);
  await raw.subscribe('twice');
  await raw.subscribe('twice');
  raw.send({ event: 'pusher:unsubscribe', data: { channel: 'never-there' } });
  await sdk.trigger('twice', 'e', 1);
  assert.deepEqual(await raw.drained(), [{ event: 'e', channel: 'twice', data: '1' }]);
  const info = await jsonOf(sdk.get({ path: '/channels/twice', params: { info: 'subscription_count' } }));
  assert.deepEqual(info, { occupied: true, subscription_count: 1 });
});

test('names that only look like a kind are public; only the anchored prefixes ask for a signature', async (t) => {
  const raw = await RawSocket.established(t, broker);
  for (const channel of ['privateer', 'presences', 'my-private-x', 'cached', 'cache-open']) {
    assert.equal((await raw.subscribe(channel)).data, '{}');
  }
  for (const channel of ['private-', 'presence-', 'private-cache-x', 'presence-cache-x', 'private-encrypted-cache-x', '#server-to-user-1', '#private-x']) {
    raw.send({ event: 'pusher:subscribe', data: { auth: '', channel } });
    const { data } = await raw.frame('pusher:subscription_error');
    assert.equal(JSON.parse(data).type, channel === '#private-x' ? 'InvalidChannel' : 'AuthError', channel);
  }
  const { channels } = await jsonOf(sdk.get({ path: '/channels', params: { filter_by_prefix: 'p' } }));
  assert.deepEqual(Object.keys(channels).sort(), ['presences', 'privateer']);
});

test('sockets are listed page by page, with what they are', async (t) => {
  const own = await Broker.during(t);
  const calls = serverSdk(own);
  const crowd = [await RawSocket.established(t, own), await RawSocket.established(t, own), await RawSocket.established(t, own)];
  await crowd[0].subscribe('a');
  await crowd[0].signedIn(calls, { id: '42' });
  const first = await jsonOf(calls.get({ path: '/sockets', params: { limit: 2 } }));
  const second = await jsonOf(calls.get({ path: '/sockets', params: { limit: 2, after: first.next } }));
  assert.deepEqual([first.sockets.length, second.sockets.length, second.next], [2, 1, null]);
  const ids = [...first.sockets, ...second.sockets].map(({ socket_id }) => socket_id);
  assert.deepEqual(ids.sort(), crowd.map(({ id }) => id).sort());
  const one = await jsonOf(calls.get({ path: `/sockets/${crowd[0].id}` }));
  assert.deepEqual([one.socket_id, one.state, one.remote_ip, one.user_id, one.channels], [crowd[0].id, 'active', '127.0.0.1', '42', ['a']]);
  await assert.rejects(calls.get({ path: '/sockets/1.1' }), { status: 404 });
});
