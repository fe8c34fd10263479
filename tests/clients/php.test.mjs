// What PHP applications send: bodies, signatures and escapes made by PHP itself, and its own HTTP client.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { AuthServer } from './support/auth-server.mjs';
import { Broker } from './support/broker.mjs';
import { connect, settled, signedIn, subscribed } from './support/pusher-js.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { MASTER_KEY, serverSdk } from './support/server-sdk.mjs';
import { collect, next } from './support/waiting.mjs';

const APPLICATION = fileURLToPath(new URL('support/application.php', import.meta.url));
const decode = (value) => (typeof value === 'string' ? Buffer.from(value, 'base64').toString() : value);

/** One step of the PHP application. */
function php(step) {
  const { error, status, stdout, stderr } = spawnSync('php', ['-d', 'allow_url_fopen=1', APPLICATION], { input: JSON.stringify(step), encoding: 'utf8' });
  if (error) assert.fail(`php is needed for this suite: ${error.message}`);
  assert.equal(status, 0, stdout + stderr);
  return Object.fromEntries(Object.entries(JSON.parse(stdout)).map(([key, value]) => [key, decode(value)]));
}

let broker, url;

before(async () => {
  broker = await Broker.start({ server: { path_prefix: '/broker' } });
  url = broker.url;
});

after(() => broker.stop());

const ORDER = { id: 1, path: 'a/b', name: 'Zoë 🎉', price: 9.5, empty: [], html: '<b>&"\'</b>' };

suite('broadcasting', () => {
  test('an event class on one channel: the text arrives with the escapes of PHP', async (t) => {
    const raw = await RawSocket.established(t, broker);
    await raw.subscribe('orders');
    const { status, answer, body, data } = php({ do: 'trigger', url, event: 'App\\Events\\OrderShipped', channels: ['orders'], data: ORDER });
    assert.deepEqual([status, answer], [200, '{}']);
    assert.ok(body.includes('"name":"App\\\\Events\\\\OrderShipped"') && body.includes('"channel":"orders"'), body);
    assert.ok(data.includes('a\\/b') && data.includes('Zo\\u00eb \\ud83c\\udf89'), data);
    assert.deepEqual(await raw.frame('App\\Events\\OrderShipped'), { event: 'App\\Events\\OrderShipped', channel: 'orders', data });
  });

  test('pusher-js reads what PHP wrote', async (t) => {
    const pusher = await connect(t, broker);
    const shipped = next(await subscribed(pusher, 'orders'), 'App\\Events\\OrderShipped');
    php({ do: 'trigger', url, event: 'App\\Events\\OrderShipped', channels: ['orders'], data: ORDER });
    assert.deepEqual(await shipped, ORDER);
  });

  test('a hundred channels in one request; toOthers leaves out the sender', async (t) => {
    const [mine, theirs] = [await RawSocket.established(t, broker), await RawSocket.established(t, broker)];
    for (const raw of [mine, theirs]) await raw.subscribe('many-99');
    await mine.drained();
    const channels = Array.from({ length: 100 }, (_, n) => `many-${n}`);
    const { status, answer } = php({ do: 'trigger', url, event: 'E', channels, data: { a: 1 }, params: { socket_id: mine.id } });
    assert.deepEqual([status, answer], [200, '{}']);
    assert.deepEqual(await mine.drained(), []);
    assert.deepEqual(await theirs.drained(), [{ event: 'E', channel: 'many-99', data: '{"a":1}' }]);
    const refusal = php({ do: 'trigger', url, event: 'E', channels: [...channels, 'one-more'], data: { a: 1 } });
    assert.equal(refusal.status, 400);
  });

  test('the limit counts decoded bytes: 10 240 bytes of é fit, though PHP sends three times as many', () => {
    const fits = php({ do: 'trigger', url, event: 'E', channels: ['large'], data: 'é'.repeat(5120) });
    assert.ok(fits.body.length > 30_000);
    assert.equal(fits.status, 200);
    assert.equal(php({ do: 'trigger', url, event: 'E', channels: ['large'], data: 'é'.repeat(5121) }).status, 413);
  });

  test('a base path on the wire that is not in the signed text', async (t) => {
    const raw = await RawSocket.established(t, broker, { prefix: '/broker' });
    await raw.subscribe('based');
    const { status, answer } = php({ do: 'trigger', url, base: '/broker', event: 'E', channels: ['based'], data: { a: 1 } });
    assert.deepEqual([status, answer], [200, '{}']);
    assert.equal((await raw.frame('E')).data, '{"a":1}');
    assert.equal(php({ do: 'get', url, base: '/broker', path: '/channels' }).status, 200);
  });
});

suite('reads', () => {
  test('values that PHP percent-encodes are signed as they were before', async (t) => {
    const raw = await RawSocket.established(t, broker);
    await raw.authorised(serverSdk(broker), 'presence-room', { user_id: '42' });
    const params = { info: 'user_count,subscription_count' };
    const { status, answer, query } = php({ do: 'get', url, path: '/channels/presence-room', params });
    assert.match(query, /info=user_count%2Csubscription_count/);
    assert.deepEqual([status, JSON.parse(answer)], [200, { occupied: true, user_count: 1, subscription_count: 1 }]);
    const filtered = php({ do: 'get', url, path: '/channels', params: { ...params, filter_by_prefix: 'presence-r' } });
    assert.deepEqual(JSON.parse(filtered.answer), { channels: { 'presence-room': { user_count: 1, subscription_count: 1 } } });
    assert.equal(php({ do: 'get', url, path: '/channels/presence-room/users' }).answer, '{"users":[{"id":"42"}]}');
  });

  test('no channels are an empty map for PHP, not an empty list', () => {
    const { answer, channels_are } = php({ do: 'get', url, path: '/channels', params: { filter_by_prefix: 'nothing-like-it' } });
    assert.deepEqual([answer, channels_are], ['{"channels":{}}', 'stdClass']);
  });
});

suite('signatures made by PHP', () => {
  const ZOE = { user_id: '7', user_info: { name: 'Zoë / x' } };

  test('presence: the escapes are signed as they stand, and the name comes out right', async (t) => {
    const raw = await RawSocket.established(t, broker);
    const authorisation = php({ do: 'channel-auth', socket_id: raw.id, channel: 'presence-php', member: ZOE });
    assert.equal(authorisation.channel_data, '{"user_id":"7","user_info":{"name":"Zo\\u00eb \\/ x"}}');
    const { data } = await raw.subscribe('presence-php', authorisation);
    assert.deepEqual(JSON.parse(data), { presence: { count: 1, ids: ['7'], hash: { 7: { name: 'Zoë / x' } } } });
  });

  test('the same member written with and without escapes is one member', async (t) => {
    const [one, two] = [await RawSocket.established(t, broker), await RawSocket.established(t, broker)];
    await one.subscribe('presence-both', php({ do: 'channel-auth', socket_id: one.id, channel: 'presence-both', member: ZOE }));
    const { data } = await two.authorised(serverSdk(broker), 'presence-both', ZOE);
    assert.equal(JSON.parse(data).presence.count, 1);
    assert.deepEqual(await one.drained(), []);
  });

  test('private channel, and user sign-in with an echo byte for byte', async (t) => {
    const raw = await RawSocket.established(t, broker);
    await raw.subscribe('private-php', php({ do: 'channel-auth', socket_id: raw.id, channel: 'private-php' }));
    const login = php({ do: 'user-auth', socket_id: raw.id, user: { id: '42', user_info: { name: 'Zoë / x' } } });
    raw.send({ event: 'pusher:signin', data: login });
    const success = await raw.frame('pusher:signin_success');
    const { user_data } = typeof success.data === 'string' ? JSON.parse(success.data) : success.data;
    assert.equal(user_data, login.user_data);
    assert.ok(user_data.includes('Zo\\u00eb \\/ x'));
  });

  test('pusher-js with an application in PHP: presence, sign-in, and an event encrypted by PHP', async (t) => {
    const auth = await AuthServer.start(serverSdk(broker));
    t.after(() => auth.stop());
    const customHandler = ({ socketId, channelName }, done) =>
      done(null, php(channelName === undefined
        ? { do: 'user-auth', socket_id: socketId, user: { id: '42' } }
        : { do: 'channel-auth', socket_id: socketId, channel: channelName, member: ZOE }));
    const pusher = await connect(t, broker, { channelAuthorization: { customHandler }, userAuthentication: { customHandler } });
    const room = await subscribed(pusher, 'presence-page');
    assert.deepEqual(room.members.me, { id: '7', info: { name: 'Zoë / x' } });
    await signedIn(pusher);
    const notices = collect(pusher.user, 'notice');
    php({ do: 'trigger', url, event: 'notice', channels: ['#server-to-user-42'], data: { text: 'Zoë' } });
    await settled(pusher);
    assert.deepEqual(notices, [{ text: 'Zoë' }]);

    const reader = await connect(t, broker, { auth, user: '42' });
    const deposit = next(await subscribed(reader, 'private-encrypted-vault'), 'Deposit');
    const { data } = php({ do: 'encrypt', channel: 'private-encrypted-vault', data: ORDER, master_key: MASTER_KEY });
    php({ do: 'trigger', url, event: 'Deposit', channels: ['private-encrypted-vault'], data });
    assert.deepEqual(await deposit, ORDER);
  });
});
