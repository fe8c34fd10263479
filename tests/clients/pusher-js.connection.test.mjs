// pusher-js: the handshake, every refusal with its code and what the client makes of it, restarts and drains.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { AuthServer } from './support/auth-server.mjs';
import { Balancer } from './support/balancer.mjs';
import { APP, Broker, app } from './support/broker.mjs';
import { client, connect, connected, refusals, settled, signedIn, subscribed } from './support/pusher-js.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { jsonOf, serverSdk } from './support/server-sdk.mjs';
import { PATIENCE, always, collect, eventually, eventuallyEqual, next } from './support/waiting.mjs';

const DISABLED = app('disabled', { enabled: false });
const SINGLE = app('single', { max_connections: 1 });
const PATIENT = app('patient', { max_connections: 1, quota_close_code: 4100 });
const CHOOSY = app('choosy', { allowed_origins: ['https://good.example'] });
const SECURE = app('secure', { force_tls: true });

let broker;

before(async () => {
  broker = await Broker.start({ apps: [APP, DISABLED, SINGLE, PATIENT, CHOOSY, SECURE] });
});

after(() => broker.stop());

const connections = async (which) => (await jsonOf(serverSdk(broker, which).get({ path: '/connections' }))).connections;

suite('handshake', () => {
  test('the first frame: a well-formed socket id, unlike any other, and 120 s', async (t) => {
    const raw = await RawSocket.open(t, broker);
    await eventually('a frame', () => raw.frames.length > 0);
    const { event, data, channel } = raw.frames[0];
    assert.deepEqual([event, typeof data, channel], ['pusher:connection_established', 'string', undefined]);
    const { socket_id, activity_timeout } = JSON.parse(data);
    assert.match(socket_id, /^[0-9]+\.[0-9]+$/);
    assert.equal(activity_timeout, 120);
    const pusher = await connect(t, broker);
    assert.match(pusher.connection.socket_id, /^[0-9]+\.[0-9]+$/);
    assert.notEqual(pusher.connection.socket_id, socket_id);
    assert.deepEqual([pusher.connection.activityTimeout, pusher.states], [120_000, ['connecting', 'connected']]);
  });

  test('silence: pusher-js pings after the advertised second, and the answer keeps it connected', async (t) => {
    const quick = await Broker.during(t, { server: { activity_timeout: '1s' } });
    const pusher = await connect(t, quick);
    const pongs = [];
    pusher.bind_global((event, data) => event === 'pusher:pong' && pongs.push(data));
    await eventuallyEqual('two pongs', () => pongs.slice(0, 2), [{}, {}]);
    assert.deepEqual(pusher.states, ['connecting', 'connected']);
  });

  test('a path prefix serves pusher-js with wsPath, the plain path, and signatures without the prefix', async (t) => {
    const prefixed = await Broker.during(t, { server: { path_prefix: '/ws' } });
    const [inside, outside] = [await connect(t, prefixed, { wsPath: '/ws' }), await connect(t, prefixed)];
    const heard = [collect(await subscribed(inside, 'a'), 'e'), collect(await subscribed(outside, 'a'), 'e')];
    const sdk = serverSdk(prefixed);
    const body = JSON.stringify({ name: 'e', channels: ['a'], data: '1' });
    const query = sdk.createSignedQueryString({ method: 'POST', path: '/apps/app-id/events', body });
    const answer = await fetch(`${prefixed.url}/ws/apps/app-id/events?${query}`, { method: 'POST', body });
    assert.deepEqual([answer.status, await answer.text()], [200, '{}']);
    await sdk.trigger('a', 'e', 2);
    await settled(inside, outside);
    assert.deepEqual(heard, [[1, 2], [1, 2]]);
  });

  test('a leaving client is forgotten, and may come back', async (t) => {
    const pusher = await connect(t, broker);
    const channel = await subscribed(pusher, 'leaving');
    pusher.disconnect();
    const sdk = serverSdk(broker);
    await eventuallyEqual('nobody is there', () => jsonOf(sdk.get({ path: '/channels/leaving' })), { occupied: false });
    pusher.connect();
    await next(channel, 'pusher:subscription_succeeded');
    assert.deepEqual(await jsonOf(sdk.get({ path: '/channels/leaving' })), { occupied: true });
  });
});

suite('refusals carry codes', () => {
  /** pusher-js is told code and text, stops, and stays stopped. */
  async function refusedForGood(t, key, code, message) {
    const pusher = client(t, broker, { key });
    await next(pusher.connection, 'disconnected');
    assert.deepEqual(pusher.errors[0], { type: 'WebSocketError', error: { type: 'PusherError', data: { code, message } } });
    await always('it does not come back', () => pusher.connection.state === 'disconnected', { during: 1300 });
    assert.deepEqual(pusher.states, ['connecting', 'disconnected']);
  }

  /** The upgrade succeeds, the frame comes first, the close follows with the same code. */
  async function refusedOnTheWire(t, options, code, message) {
    const raw = await RawSocket.open(t, broker, options);
    await raw.refusal(code, message);
  }

  test('4001: no such key', async (t) => {
    await refusedForGood(t, 'nokey', 4001, 'App key nokey does not exist');
    await refusedOnTheWire(t, { key: 'nokey' }, 4001, 'App key nokey does not exist');
  });

  test('4003: the application is disabled', async (t) => {
    await refusedForGood(t, DISABLED.key, 4003, 'Application disabled');
    await refusedOnTheWire(t, { key: DISABLED.key }, 4003, 'Application disabled');
  });

  test('4004: over quota is closed, silent connections count, and a free place is given again', async (t) => {
    const first = await connect(t, broker, { key: SINGLE.key });
    await refusedForGood(t, SINGLE.key, 4004, 'Application is over connection quota');
    const third = await RawSocket.open(t, broker, { key: SINGLE.key });
    await third.refusal(4004, 'Application is over connection quota');
    assert.deepEqual([await connections(SINGLE), first.connection.state], [1, 'connected']);
    first.disconnect();
    await eventuallyEqual('the place is free', () => connections(SINGLE), 0);
    await connect(t, broker, { key: SINGLE.key });
  });

  test('4100 instead, where a full application is a passing state: the client gets in later', async (t) => {
    const first = await connect(t, broker, { key: PATIENT.key });
    const second = client(t, broker, { key: PATIENT.key });
    const error = await next(second.connection, 'error');
    assert.equal(error.error.data.code, 4100);
    first.disconnect();
    await connected(second);
  });

  test('4007: protocol versions', async (t) => {
    for (const query of ['protocol=3', 'protocol=8', 'protocol=abc', 'protocol=']) {
      await refusedOnTheWire(t, { query }, 4007, 'Unsupported protocol version');
    }
    for (const query of ['protocol=4', 'protocol=5', 'protocol=6', 'client=js&version=odd', 'flash=false&protocol=7']) {
      await RawSocket.established(t, broker, { query });
    }
  });

  test('4009: a foreign origin is closed; the right one and none at all are welcome', async (t) => {
    const evil = await RawSocket.open(t, broker, { key: CHOOSY.key, origin: 'https://evil.example' });
    await evil.refusal(4009, 'Origin not allowed');
    assert.equal(await connections(CHOOSY), 0);
    await RawSocket.established(t, broker, { key: CHOOSY.key, origin: 'https://good.example' });
    await connect(t, broker, { key: CHOOSY.key });
  });

  test('4000: pusher-js is sent to TLS', async (t) => {
    await refusedOnTheWire(t, { key: SECURE.key }, 4000, 'Application only accepts SSL connections, reconnect using wss://');
    const pusher = client(t, broker, { key: SECURE.key, wsHost: 'localhost', wssPort: broker.port });
    await eventually('it turns to wss', () => pusher.connection.isUsingTLS());
  });

  test('a plain GET of a connection path is told so, and is no connection', async () => {
    const answer = await fetch(`${broker.url}/app/${APP.key}?protocol=7`);
    assert.ok([400, 426].includes(answer.status), `status ${answer.status}`);
  });
});

suite('restarts', () => {
  const TOLD = { code: 4200, message: 'Please reconnect immediately' };

  /** A client with a public, a private and a presence channel, signed in. */
  async function settledIn(t, on, auth) {
    const pusher = await connect(t, on, { auth, user: '42' });
    const names = ['a', 'private-a', 'presence-a'];
    const channels = await Promise.all(names.map((name) => subscribed(pusher, name)));
    await signedIn(pusher);
    const before = pusher.connection.socket_id;
    return { pusher, names, before, heard: channels.map((channel) => collect(channel, 'e')), own: collect(pusher.user, 'e') };
  }

  /** Everything works again: the three channels, the members, the user's own channel. */
  async function worksAgain({ pusher, names, before, heard, own }, sdk) {
    const { connection } = pusher;
    // When an attempt meets a closed port, pusher-js waits 15 s before the next one.
    await eventually('a new connection', () => connection.state === 'connected' && connection.socket_id !== before, { within: 3 * PATIENCE });
    const occupied = async () => Object.keys((await jsonOf(sdk.get({ path: '/channels' }))).channels).sort();
    await eventuallyEqual('all channels are back', occupied, [...names].sort());
    await eventually('signed in again', () => pusher.user.serverToUserChannel?.subscribed);
    await sdk.trigger(names, 'e', 'after');
    await sdk.sendToUser('42', 'e', 'own');
    await settled(pusher);
    assert.deepEqual([heard, own], [[['after'], ['after'], ['after']], ['own']]);
    assert.deepEqual(Object.keys(pusher.channel('presence-a').members.members), ['42']);
  }

  async function place(t) {
    const broker = await Broker.during(t);
    const auth = await AuthServer.start(serverSdk(broker));
    t.after(() => auth.stop());
    return { broker, auth };
  }

  test('after a crash the client is back on the same port with all its subscriptions', async (t) => {
    const { broker: home, auth } = await place(t);
    const guest = await settledIn(t, home, auth);
    await home.kill();
    await home.startAgain();
    await worksAgain(guest, serverSdk(home));
  });

  test('after an orderly restart too; the client was told 4200', async (t) => {
    const { broker: home, auth } = await place(t);
    const guest = await settledIn(t, home, auth);
    await home.stop();
    await eventuallyEqual('it was told', () => refusals(guest.pusher).slice(0, 2), [TOLD, TOLD]);
    await home.startAgain();
    await worksAgain(guest, serverSdk(home));
  });

  test('a drain closes everybody with 4200, spread out, and all are at once on the next node', async (t) => {
    const [old, fresh] = [await Broker.during(t, { drain: { spread: '2s', grace: '2m' } }), await Broker.during(t)];
    const balancer = await Balancer.to(t, old);
    const crowd = await Promise.all(Array.from({ length: 12 }, () => connect(t, balancer)));
    const heard = await Promise.all(crowd.map(async (pusher) => collect(await subscribed(pusher, 'news'), 'e')));
    const [left, back] = [[], []];
    for (const pusher of crowd) {
      pusher.connection.bind('connecting', () => left.push(Date.now()));
      pusher.connection.bind('connected', () => back.push(Date.now()));
    }
    balancer.broker = fresh;
    const { took } = await old.stop();
    await eventuallyEqual('all are on the next node', () => back.length, 12);
    for (const pusher of crowd) {
      assert.deepEqual(refusals(pusher), [TOLD, TOLD], 'once by the frame, once by the close');
      assert.deepEqual(pusher.states, ['connecting', 'connected', 'connecting', 'connected']);
    }
    const spread = Math.max(...left) - Math.min(...left);
    assert.ok(spread >= 100, `the closes are spread: all within ${spread} ms`);
    assert.ok(took < 40_000, `the stop ends when it is done, and not with the grace: ${took} ms`);
    // What pusher-js has made of it: it does not wait, as it does, for a second, when a connection is just closed.
    const pauses = crowd.map(({ timeline }) => timeline.events.find(({ action }) => action === 'retry').delay);
    assert.deepEqual(pauses, Array(12).fill(0), 'nobody pauses');
    const count = () => jsonOf(serverSdk(fresh).get({ path: '/channels/news', params: { info: 'subscription_count' } }));
    await eventuallyEqual('all are subscribed', count, { occupied: true, subscription_count: 12 });
    await serverSdk(fresh).trigger('news', 'e', 1);
    await settled(...crowd);
    assert.deepEqual(heard, crowd.map(() => [1]));
  });

  test('a stop with nobody there takes no time', async () => {
    const idle = await Broker.start({ drain: { grace: '2m', spread: '1m' } });
    const { took } = await idle.stop();
    assert.ok(took < 10_000, `${took} ms`);
  });
});
