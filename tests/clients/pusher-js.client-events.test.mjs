// pusher-js: client events, with the conditions of the protocol in their order.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { AuthServer } from './support/auth-server.mjs';
import { APP, Broker, app } from './support/broker.mjs';
import { connect, refusals, settled, subscribed } from './support/pusher-js.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { serverSdk } from './support/server-sdk.mjs';
import { eventuallyEqual } from './support/waiting.mjs';

const MUTE = app('mute', { client_events: false });

let broker, sdk, auth;

before(async () => {
  broker = await Broker.start({ apps: [APP, MUTE] });
  sdk = serverSdk(broker);
  auth = await AuthServer.start(sdk);
});

after(async () => {
  await auth.stop();
  await broker.stop();
});

/** Two users and a second tab of the first, all on one channel; `heard` is what each was handed for `event`, with its metadata. */
async function party(t, name, event) {
  const people = await Promise.all(['42', '7', '42'].map((user) => connect(t, broker, { auth, user })));
  const channels = await Promise.all(people.map((pusher) => subscribed(pusher, name)));
  const heard = channels.map((channel) => {
    const seen = [];
    channel.bind(event, (data, metadata) => seen.push([data, metadata]));
    return seen;
  });
  return { people, channels, heard };
}

suite('delivery', () => {
  test('private: everybody but the sending connection, without user_id', async (t) => {
    const { people, channels, heard } = await party(t, 'private-chat', 'client-typing');
    channels[0].trigger('client-typing', { on: true });
    await settled(...people);
    await eventuallyEqual('the others hear it', () => heard, [[], [[{ on: true }, {}]], [[{ on: true }, {}]]]);
    await settled(people[0]);
    assert.deepEqual(heard[0], [], 'no echo');
  });

  test('presence: the handler learns who spoke, and a forged user_id is ignored', async (t) => {
    const { people, channels, heard } = await party(t, 'presence-chat', 'client-typing');
    channels[1].trigger('client-typing', { user_id: '42' });
    const said = [[{ user_id: '42' }, { user_id: '7' }]];
    await eventuallyEqual('the others hear Bob', () => heard, [said, [], said]);
    await settled(...people);
    assert.deepEqual(heard, [said, [], said], 'once, and no echo');
  });

  test('any JSON value passes: string, number, null, array, and nothing at all', async (t) => {
    const { channels, heard } = await party(t, 'private-values', 'client-value');
    for (const value of ['text', 12.5, null, [1, 'two'], undefined]) channels[0].trigger('client-value', value);
    await eventuallyEqual('five values', () => heard[1].map(([data]) => data), ['text', 12.5, null, [1, 'two'], null]);
  });

  test('on the wire the data is a string with the number tokens of the sender', async (t) => {
    const [ada, bob] = [await RawSocket.established(t, broker), await RawSocket.established(t, broker)];
    await ada.authorised(sdk, 'presence-wire', { user_id: '42', user_info: { name: 'Ada' } });
    await bob.authorised(sdk, 'presence-wire', { user_id: '7' });
    ada.send('{"event":"client-n","channel":"presence-wire","data":{"n":1.50,"big":12345678901234567890},"user_id":"7","socket_id":"1.1"}');
    assert.deepEqual(await bob.frame('client-n'), {
      event: 'client-n',
      channel: 'presence-wire',
      data: '{"n":1.50,"big":12345678901234567890}',
      user_id: '42',
    });
    ada.send({ event: 'client-s', channel: 'presence-wire', data: 'a string' });
    assert.deepEqual(await bob.frame('client-s'), { event: 'client-s', channel: 'presence-wire', data: 'a string', user_id: '42' });
  });
});

suite('refusals are in-band', () => {
  /** Refused with this code and text; nobody hears it; the connection goes on working. */
  async function refuses(t, { key, channel, authorised = true, event = 'client-x', data = {}, code, message }) {
    const secrets = key === MUTE.key ? serverSdk(broker, MUTE) : sdk;
    const [sender, listener] = [await RawSocket.established(t, broker, { key }), await RawSocket.established(t, broker, { key })];
    const kind = channel.startsWith('presence-') ? { user_id: '1' } : undefined;
    await listener.authorised(secrets, channel, kind);
    if (authorised) await sender.authorised(secrets, channel, kind && { user_id: '2' });
    await listener.drained();
    sender.send({ event, channel, data });
    const frame = await sender.frame('pusher:error');
    assert.deepEqual(frame.data, { code, message });
    await sender.subscribe('still-alive');
    assert.deepEqual(await listener.drained(), []);
    assert.equal(sender.closed, null);
  }

  test('the app has no client events', (t) =>
    refuses(t, { key: MUTE.key, channel: 'private-a', code: 4301, message: 'The app does not have client messaging enabled.' }));

  for (const channel of ['open-a', 'cache-a', 'private-encrypted-a', 'private-encrypted-cache-a']) {
    test(`not allowed on ${channel}`, (t) => refuses(t, { channel, code: 4009, message: 'Client events are not allowed on this channel.' }));
  }

  test('not subscribed: nobody speaks into a channel from outside', (t) =>
    refuses(t, {
      channel: 'private-a',
      authorised: false,
      code: 4009,
      message: 'Cannot broadcast client event (connection not subscribed to channel private-a)',
    }));

  test('a name of 201 characters', (t) =>
    refuses(t, { channel: 'private-a', event: `client-${'x'.repeat(194)}`, code: 4301, message: 'Event name is too long. Maximum allowed size is 200.' }));

  test('more than 10 KiB of data', (t) =>
    refuses(t, { channel: 'presence-a', data: 'x'.repeat(10241), code: 4301, message: 'The event data should be less than 10 KB.' }));

  test('no client- prefix', (t) =>
    refuses(t, { channel: 'private-a', event: 'shout', code: 4300, message: 'Unsupported event received on socket: shout' }));

  test('a channel that is missing or not a string', async (t) => {
    const raw = await RawSocket.established(t, broker);
    for (const frame of [{ event: 'client-x', data: {} }, { event: 'client-x', channel: 5, data: {} }]) {
      raw.send(frame);
      assert.deepEqual((await raw.frame('pusher:error')).data, { code: 4300, message: 'Invalid client event (must contain channel and data)' });
    }
    assert.deepEqual(await raw.drained(), []);
  });

  test('10 240 bytes of data and a name of 200 characters still pass', async (t) => {
    const { channels, heard } = await party(t, 'private-brim', `client-${'y'.repeat(193)}`);
    channels[0].trigger(`client-${'y'.repeat(193)}`, 'z'.repeat(10240));
    await eventuallyEqual('it arrives', () => heard[1].map(([data]) => data.length), [10240]);
  });

  test('more than ten in one burst: ten are delivered, and what is over is refused; pusher-js stays connected', async (t) => {
    const { people, channels, heard } = await party(t, 'private-burst', 'client-n');
    const all = Array.from({ length: 100 }, (_, n) => n + 1);
    const began = performance.now();
    for (const n of all) channels[0].trigger('client-n', n);
    await settled(people[0]);
    // The broker may have taken its time to read them: ten more in each second.
    const atMost = 10 + Math.floor((performance.now() - began) / 100);
    await settled(people[1]);
    const delivered = heard[1].map(([data]) => data);
    assert.deepEqual(delivered.slice(0, 10), all.slice(0, 10));
    assert.ok(delivered.length <= atMost, `${delivered.length} were delivered, of at most ${atMost}`);
    assert.deepEqual(delivered, [...new Set(delivered)].sort((a, b) => a - b), 'in their order, and once each');
    const refused = refusals(people[0]);
    assert.ok(refused.length > 0);
    assert.equal(delivered.length + refused.length, all.length);
    const limited = { code: 4301, message: 'The rate limit for sending client events exceeded the quota.' };
    for (const refusal of refused) assert.deepEqual(refusal, limited);
    assert.equal(people[0].connection.state, 'connected');
  });
});
