// pusher-js: presence channels. Members are users, not connections.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { AuthServer } from './support/auth-server.mjs';
import { APP, Broker, app } from './support/broker.mjs';
import { connect, connected, client, refusedSubscription, settled, signedIn, subscribed } from './support/pusher-js.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { jsonOf, serverSdk } from './support/server-sdk.mjs';
import { PATIENCE, collect, eventuallyEqual } from './support/waiting.mjs';

const SMALL = app('small', { limits: { max_presence_members: 2 } });

let broker, sdk, auth, smallAuth;

before(async () => {
  broker = await Broker.start({ apps: [APP, SMALL] });
  sdk = serverSdk(broker);
  auth = await AuthServer.start(sdk);
  smallAuth = await AuthServer.start(serverSdk(broker, SMALL));
});

after(async () => {
  await auth.stop();
  await smallAuth.stop();
  await broker.stop();
});

const as = (t, user, options) => connect(t, broker, { auth, user, ...options });

/** Joins and notes who is announced from then on. */
async function join(pusher, name) {
  const channel = pusher.subscribe(name);
  const [added, removed] = [collect(channel, 'pusher:member_added'), collect(channel, 'pusher:member_removed')];
  await subscribed(pusher, name);
  return { channel, added, removed, here: { ...channel.members.members } };
}

suite('who is here', () => {
  test('the joiner gets the whole roster, itself included', async (t) => {
    const [ada, bob] = [await as(t, '42'), await as(t, '7')];
    const first = await join(ada, 'presence-room');
    assert.deepEqual(first.here, { 42: { name: 'Ada' } });
    assert.deepEqual(first.channel.members.me, { id: '42', info: { name: 'Ada' } });
    const second = await join(bob, 'presence-room');
    assert.deepEqual(second.here, { 42: { name: 'Ada' }, 7: { name: 'Bob' } });
    assert.equal(second.channel.members.count, 2);
    assert.deepEqual(second.channel.members.get('42'), { id: '42', info: { name: 'Ada' } });
    await eventuallyEqual('Ada is told of Bob', () => first.added, [{ id: '7', info: { name: 'Bob' } }]);
    await settled(bob);
    assert.deepEqual(second.added, [], 'nobody is told of himself');
    assert.equal(first.channel.members.count, 2);
  });

  test('the frames have the documented form', async (t) => {
    const [ada, bob] = [await RawSocket.established(t, broker), await RawSocket.established(t, broker)];
    await ada.authorised(sdk, 'presence-form', { user_id: '42', user_info: { name: 'Ada' } });
    const succeeded = await bob.authorised(sdk, 'presence-form', { user_id: 7 });
    const roster = JSON.parse(succeeded.data);
    assert.deepEqual([...roster.presence.ids].sort(), ['42', '7']);
    assert.deepEqual(roster, { presence: { count: 2, ids: roster.presence.ids, hash: { 42: { name: 'Ada' }, 7: null } } });
    const added = await ada.frame('pusher_internal:member_added');
    assert.deepEqual(added, { event: 'pusher_internal:member_added', channel: 'presence-form', data: '{"user_id":"7"}' });
    bob.send({ event: 'pusher:unsubscribe', data: { channel: 'presence-form' } });
    const removed = await ada.frame('pusher_internal:member_removed');
    assert.deepEqual(removed, { event: 'pusher_internal:member_removed', channel: 'presence-form', data: '{"user_id":"7"}' });
  });

  test('leaving and losing the connection both tell the others', async (t) => {
    const [ada, bob, zoe] = [await as(t, '42'), await as(t, '7'), await as(t, '9')];
    const watch = await join(ada, 'presence-leaving');
    await join(bob, 'presence-leaving');
    await join(zoe, 'presence-leaving');
    bob.unsubscribe('presence-leaving');
    await eventuallyEqual('Bob has left', () => watch.removed, [{ id: '7', info: { name: 'Bob' } }]);
    zoe.disconnect();
    await eventuallyEqual('Zoë is gone', () => watch.removed.map(({ id }) => id), ['7', '9']);
    assert.deepEqual(watch.channel.members.members, { 42: { name: 'Ada' } });
    assert.equal(watch.channel.members.count, 1);
  });

  test('user_info comes out as it went in, escapes and big numbers included', async (t) => {
    auth.users[11] = { info: { name: 'Zoë / 🎉', n: 9007199254740991, z: 1, a: { nested: [null, true] } } };
    const { here } = await join(await as(t, '11'), 'presence-info');
    assert.deepEqual(here, { 11: auth.users[11].info });
    assert.deepEqual(Object.keys(here[11]), ['name', 'n', 'z', 'a'], 'the order of the keys too');
  });

  test('an id that the application gives as a number is a string for everybody', async (t) => {
    const { channel, here } = await join(await as(t, '10', { wish: 'numeric-id' }), 'presence-numbers');
    assert.deepEqual(here, { 10: null });
    assert.equal(channel.members.count, 1);
    assert.deepEqual(await jsonOf(sdk.get({ path: '/channels/presence-numbers/users' })), { users: [{ id: '10' }] });
  });
});

suite('one user, several tabs', () => {
  test('a second tab is not announced, and the user is gone with the last one', async (t) => {
    const bob = await as(t, '7');
    const [tab1, tab2] = [await as(t, '42'), await as(t, '42')];
    const watch = await join(bob, 'presence-tabs');
    await join(tab1, 'presence-tabs');
    const second = await join(tab2, 'presence-tabs');
    assert.equal(second.channel.members.count, 2);
    tab1.disconnect();
    await eventuallyEqual('one connection less', async () => {
      const { subscription_count } = await jsonOf(sdk.get({ path: '/channels/presence-tabs', params: { info: 'subscription_count' } }));
      return subscription_count;
    }, 2);
    await settled(bob);
    assert.deepEqual([watch.added.map(({ id }) => id), watch.removed], [['42'], []]);
    tab2.disconnect();
    await eventuallyEqual('the user is gone', () => watch.removed.map(({ id }) => id), ['42']);
  });

  test('the first user_info stays until the user is gone', async (t) => {
    auth.users[12] = { info: { name: 'first' } };
    const tab = await as(t, '12');
    await join(tab, 'presence-renamed');
    auth.users[12] = { info: { name: 'second' } };
    const second = await join(await as(t, '12'), 'presence-renamed');
    assert.deepEqual(second.here, { 12: { name: 'first' } });
  });

  test('a presence id that differs from the signed-in id is the one that leaves', async (t) => {
    const watch = await join(await as(t, '7'), 'presence-aliases');
    const customHandler = ({ socketId, channelName }, done) =>
      done(null, sdk.authorizeChannel(socketId, channelName, { user_id: 'nickname', user_info: { name: 'N' } }));
    const ada = await as(t, '42', { channelAuthorization: { customHandler } });
    await signedIn(ada);
    await join(ada, 'presence-aliases');
    ada.disconnect();
    await eventuallyEqual('the nickname leaves', () => watch.removed, [{ id: 'nickname', info: { name: 'N' } }]);
  });
});

suite('limits and refusals', () => {
  test('a full channel refuses a third member, but not another tab of a member', async (t) => {
    const enter = (user) => connect(t, broker, { key: SMALL.key, auth: smallAuth, user });
    const [ada, bob, zoe, tab] = [await enter('42'), await enter('7'), await enter('9'), await enter('42')];
    const watch = await join(ada, 'presence-full');
    await join(bob, 'presence-full');
    assert.deepEqual(await refusedSubscription(zoe, 'presence-full'), {
      type: 'LimitReached',
      error: 'The maximum members per presence channel limit was reached',
      status: 4100,
    });
    const second = await join(tab, 'presence-full');
    assert.equal(second.channel.members.count, 2);
    await settled(ada);
    assert.deepEqual(watch.added.map(({ id }) => id), ['7'], 'a refused member was never announced');
  });

  test('user_info over 1 KiB and user_id over 128 characters are refused', async (t) => {
    const raw = await RawSocket.established(t, broker);
    const tooLarge = async (member) => {
      const { auth: signature, channel_data } = sdk.authorizeChannel(raw.id, 'presence-large', member);
      raw.send({ event: 'pusher:subscribe', data: { auth: signature, channel_data, channel: 'presence-large' } });
      const { data } = await raw.frame('pusher:subscription_error');
      const { type, status } = JSON.parse(data);
      return [type, status];
    };
    assert.deepEqual(await tooLarge({ user_id: '1', user_info: 'x'.repeat(1023) }), ['LimitReached', 4301]);
    assert.deepEqual(await tooLarge({ user_id: 'x'.repeat(129) }), ['LimitReached', 4301]);
    const brim = await raw.authorised(sdk, 'presence-large', { user_id: 'x'.repeat(128), user_info: 'x'.repeat(1022) });
    assert.equal(JSON.parse(brim.data).presence.count, 1);
  });

  test('channel_data without a user id or without any JSON is refused', async (t) => {
    const raw = await RawSocket.established(t, broker);
    const refusal = async (authorisation) => {
      raw.send({ event: 'pusher:subscribe', data: { ...authorisation, channel: 'presence-odd' } });
      return JSON.parse((await raw.frame('pusher:subscription_error')).data);
    };
    const signed = (member) => sdk.authorizeChannel(raw.id, 'presence-odd', member);
    const invalid = { type: 'AuthError', error: 'Invalid channel_data.', status: 401 };
    assert.deepEqual(await refusal(signed({ user_info: {} })), invalid);
    assert.deepEqual(await refusal(signed('no object')), invalid);
    const unsigned = { type: 'AuthError', error: 'The connection is unauthorized.', status: 401 };
    assert.deepEqual(await refusal({ ...signed(), channel_data: 'not json' }), unsigned, 'the signature is looked at first');
    assert.deepEqual(await refusal(signed()), unsigned, 'nobody is signed in here');
  });

  test('signed in, no channel_data is needed: the user is the member', async (t) => {
    const ada = await as(t, '42', { wish: 'no-channel-data' });
    await signedIn(ada);
    const { channel, here } = await join(ada, 'presence-shortcut');
    assert.deepEqual(here, { 42: { name: 'Ada' } });
    assert.deepEqual(channel.members.me, { id: '42', info: { name: 'Ada' } });
  });
});

suite('a crowd', () => {
  test('sixty that join at the same moment all end with the complete list', async (t) => {
    const ids = Array.from({ length: 60 }, (_, n) => String(n + 1000));
    const crowd = ids.map((user) => client(t, broker, { auth, user }));
    const channels = crowd.map((pusher) => pusher.subscribe('presence-crowd'));
    await Promise.all(crowd.map((pusher) => connected(pusher, { within: 2 * PATIENCE })));
    const complete = () => channels.map((channel) => Object.keys(channel.members.members).length);
    await eventuallyEqual('everybody knows everybody', complete, ids.map(() => 60), { within: 2 * PATIENCE });
    for (const channel of channels) {
      assert.deepEqual(Object.keys(channel.members.members).sort(), ids);
      assert.equal(channel.members.count, 60);
    }
  });
});
