// pusher-js: sign-in, messages to a user, watchlists, and ending a user's connections.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { AuthServer } from './support/auth-server.mjs';
import { APP, Broker } from './support/broker.mjs';
import { connect, refusals, settled, signedIn, subscribed } from './support/pusher-js.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { jsonOf, refused, serverSdk, textOf } from './support/server-sdk.mjs';
import { always, collect, eventually, eventuallyEqual, next } from './support/waiting.mjs';

let broker, sdk, auth;

before(async () => {
  broker = await Broker.start();
  sdk = serverSdk(broker);
  auth = await AuthServer.start(sdk);
});

after(async () => {
  await auth.stop();
  await broker.stop();
});

const as = (t, user, options) => connect(t, broker, { auth, user, ...options });
const signedInAs = async (t, user) => signedIn(await as(t, user));

suite('sign-in', () => {
  test('pusher-js learns its user, and messages to the user reach each of its connections only', async (t) => {
    const [tab1, tab2, bob] = [await signedInAs(t, '42'), await signedInAs(t, '42'), await signedInAs(t, '7')];
    assert.deepEqual(tab1.user.user_data, { id: '42', user_info: { name: 'Ada' } });
    const heard = [tab1, tab2, bob].map((pusher) => collect(pusher.user, 'notice'));
    assert.equal(await textOf(sdk.sendToUser('42', 'notice', { text: 'hi' })), '{}');
    await settled(tab1, tab2, bob);
    assert.deepEqual(heard, [[{ text: 'hi' }], [{ text: 'hi' }], []]);
  });

  test('the wire: user_data is echoed byte for byte, then the own channel is acknowledged', async (t) => {
    const raw = await RawSocket.established(t, broker);
    const success = await raw.signedIn(sdk, { id: '42', user_info: { name: 'Zoë / x' } });
    const data = typeof success.data === 'string' ? JSON.parse(success.data) : success.data;
    assert.equal(data.user_data, '{"id":"42","user_info":{"name":"Zoë / x"}}');
    assert.deepEqual(await raw.subscribe('#server-to-user-42'), {
      event: 'pusher_internal:subscription_succeeded',
      channel: '#server-to-user-42',
      data: '{}',
    });
    await sdk.sendToUser('42', 'notice', { text: 'hi' });
    assert.deepEqual(await raw.frame('notice'), { event: 'notice', channel: '#server-to-user-42', data: '{"text":"hi"}' });
  });

  test('a message to the user arrives without the acknowledged channel too', async (t) => {
    const raw = await RawSocket.established(t, broker);
    await raw.signedIn(sdk, { id: '43' });
    await sdk.sendToUser('43', 'early', 'x');
    const { data } = await raw.frame('early');
    assert.equal(data, 'x');
  });

  test("another user's channel is refused, signed in or not", async (t) => {
    const [stranger, ada] = [await RawSocket.established(t, broker), await RawSocket.established(t, broker)];
    await ada.signedIn(sdk, { id: '42' });
    for (const raw of [stranger, ada]) {
      raw.send({ event: 'pusher:subscribe', data: { auth: '', channel: '#server-to-user-7' } });
      const { channel, data } = await raw.frame('pusher:subscription_error');
      assert.equal(channel, '#server-to-user-7');
      assert.deepEqual(JSON.parse(data), { type: 'AuthError', error: 'The connection is unauthorized.', status: 401 });
    }
    await sdk.sendToUser('7', 'private-matter', 'x');
    assert.deepEqual([await stranger.drained(), await ada.drained()], [[], []]);
  });

  test('a wrong signature is told in-band with 4009, and public channels live on', async (t) => {
    const pusher = await as(t, '42', { wish: 'forge' });
    const channel = await subscribed(pusher, 'beside-signin');
    const error = next(pusher.connection, 'error');
    pusher.signin();
    assert.equal((await error).data.code, 4009);
    const seen = collect(channel, 'e');
    await sdk.trigger('beside-signin', 'e', 1);
    await settled(pusher);
    assert.deepEqual([seen, pusher.connection.state, pusher.user.user_data], [[1], 'connected', null]);
  });

  test('signing in again as the same user is good, as another is refused', async (t) => {
    const raw = await RawSocket.established(t, broker);
    await raw.signedIn(sdk, { id: '42' });
    await raw.signedIn(sdk, { id: '42', user_info: { name: 'again' } });
    raw.send({ event: 'pusher:signin', data: sdk.authenticateUser(raw.id, { id: '7' }) });
    assert.deepEqual((await raw.frame('pusher:error')).data, { code: 4009, message: 'Connection is already signed in as another user.' });
    await sdk.sendToUser('7', 'private-matter', 'x');
    await sdk.sendToUser('42', 'mine', 'y');
    assert.deepEqual((await raw.drained()).map(({ event }) => event), ['mine']);
  });

  test('the channels of users appear in no list', async (t) => {
    await signedInAs(t, '42');
    // Those of whoever was here before are gone in a moment; this one stays.
    await eventuallyEqual('the list', () => jsonOf(sdk.get({ path: '/channels' })), { channels: {} });
  });
});

suite('watchlists', () => {
  /** Signs in with a watchlist; `online` and `offline` collect the ids told from then on. */
  async function watching(t, user, watchlist) {
    auth.users[user] = { info: { name: `User ${user}` }, watchlist };
    const pusher = await as(t, user);
    const told = [];
    for (const name of ['online', 'offline']) {
      pusher.user.watchlist.bind(name, (event) => told.push([event.name, [...event.user_ids].sort()]));
    }
    await signedIn(pusher);
    return { pusher, told };
  }

  test('who is offline at first; then online with the first connection, offline after the last', async (t) => {
    const { told } = await watching(t, 'w1', ['a1', 'a2']);
    await eventuallyEqual('both are away', () => told, [['offline', ['a1', 'a2']]]);
    const [tab1, tab2] = [await signedInAs(t, 'a1'), await signedInAs(t, 'a1')];
    await eventuallyEqual('a1 came', () => told.slice(1), [['online', ['a1']]]);
    tab1.disconnect();
    await signedInAs(t, 'a2');
    await eventuallyEqual('a2 came, a1 is still there', () => told.slice(2), [['online', ['a2']]]);
    tab2.disconnect();
    await eventuallyEqual('a1 left', () => told.slice(3), [['offline', ['a1']]]);
  });

  test('the first frame lists those online and those offline, and a group that is empty is left out', async (t) => {
    await signedInAs(t, 'b1');
    const raw = await RawSocket.established(t, broker);
    await raw.signedIn(sdk, { id: 'w2', watchlist: ['b1', 'b2'] });
    const { channel, data } = await raw.frame('pusher_internal:watchlist_events');
    assert.equal(channel, undefined);
    assert.deepEqual(JSON.parse(data), { events: [{ name: 'online', user_ids: ['b1'] }, { name: 'offline', user_ids: ['b2'] }] });
    const other = await RawSocket.established(t, broker);
    await other.signedIn(sdk, { id: 'w3', watchlist: ['b1'] });
    assert.deepEqual(JSON.parse((await other.frame('pusher_internal:watchlist_events')).data), { events: [{ name: 'online', user_ids: ['b1'] }] });
  });

  test('without a watchlist nothing is told; being present in a channel is not being online', async (t) => {
    const { pusher: watcher, told } = await watching(t, 'w4', ['c1']);
    await eventuallyEqual('c1 is away', () => told, [['offline', ['c1']]]);
    const raw = await RawSocket.established(t, broker);
    await raw.signedIn(sdk, { id: 'no-list' });
    const present = await as(t, 'c1');
    await subscribed(present, 'presence-elsewhere');
    const { pusher } = await watching(t, 'w5', []);
    await settled(pusher, watcher);
    assert.deepEqual((await raw.drained()).map(({ event }) => event), []);
    assert.deepEqual(told, [['offline', ['c1']]]);
  });

  test('a list of 101 keeps the first 100 and says so with 4302', async (t) => {
    const watchlist = Array.from({ length: 101 }, (_, n) => `d${n}`);
    const raw = await RawSocket.established(t, broker);
    await raw.signedIn(sdk, { id: 'w6', watchlist });
    assert.equal((await raw.frame('pusher:error')).data.code, 4302);
    await signedInAs(t, 'd100');
    await signedInAs(t, 'd99');
    const online = () => raw.frames.filter(({ event }) => event === 'pusher_internal:watchlist_events')
      .flatMap(({ data }) => JSON.parse(data).events).filter(({ name }) => name === 'online').flatMap(({ user_ids }) => user_ids);
    await eventually('the hundredth is announced', () => online().includes('d99'));
    assert.deepEqual(online(), ['d99']);
  });
});

suite('terminate', () => {
  test('all connections of the user end and do not come back; others stay', async (t) => {
    const [tab1, tab2, bob] = [await signedInAs(t, 'gone'), await signedInAs(t, 'gone'), await signedInAs(t, 'stays')];
    const present = await as(t, 'gone');
    await subscribed(tab1, 'public-first');
    await subscribed(present, 'presence-only');
    const ended = [tab1, tab2].map((pusher) => next(pusher.connection, 'disconnected'));
    assert.equal(await textOf(sdk.terminateUserConnections('gone')), '{}');
    await Promise.all(ended);
    const told = { code: 4009, message: 'You got disconnected by the app.' };
    for (const pusher of [tab1, tab2]) assert.deepEqual(refusals(pusher), [told, told], 'once by the frame, once by the close');
    await always('nobody comes back', () => [tab1, tab2].every(({ connection }) => connection.state === 'disconnected'));
    assert.deepEqual([bob.connection.state, present.connection.state], ['connected', 'connected']);
    assert.deepEqual([bob.errors, present.errors], [[], []]);
    await settled(bob, present);
  });

  test('the frame and the close carry the same code and text', async (t) => {
    const raw = await RawSocket.established(t, broker);
    await raw.signedIn(sdk, { id: 'raw-gone' });
    await sdk.terminateUserConnections('raw-gone');
    await raw.refusal(4009, 'You got disconnected by the app.');
  });

  test('nobody signed in under that id is no error; a wrong secret is', async () => {
    assert.equal(await textOf(sdk.terminateUserConnections('nobody')), '{}');
    await refused(serverSdk(broker, { ...APP, secret: 'wrong' }).terminateUserConnections('nobody'), 401);
  });
});
