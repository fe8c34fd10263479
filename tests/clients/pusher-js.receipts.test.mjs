// pusher-js: receipts, with the very function that src/docs/receipts.md shows.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, suite, test } from 'node:test';
import { AuthServer } from './support/auth-server.mjs';
import { APP, Broker, app } from './support/broker.mjs';
import { connect, refusals, settled, signedIn, subscribed } from './support/pusher-js.mjs';
import { serverSdk } from './support/server-sdk.mjs';
import { PATIENCE, eventuallyEqual, next } from './support/waiting.mjs';

const RECEIPTS = { ...APP, receipts: true, limits: { receipt_window: '10m' } };
const STOCK = app('stock');

let broker, sdk, auth, sendOnce;

before(async () => {
  const docs = await readFile(new URL('../../src/docs/receipts.md', import.meta.url), 'utf8');
  const [, shown] = docs.match(/```js\n(\/\*\* Sends a client event;[^]*?)```/);
  ({ sendOnce } = await import(`data:text/javascript,${encodeURIComponent(shown)}`));
  broker = await Broker.start({ apps: [RECEIPTS, STOCK] });
  sdk = serverSdk(broker);
  auth = await AuthServer.start(sdk);
});

after(async () => {
  await auth.stop();
  await broker.stop();
});

/** A sender, a listener, and what the listener hears. */
async function pair(t, name, user = '42') {
  const [sender, listener] = await Promise.all([connect(t, broker, { auth, user }), connect(t, broker, { auth, user: '7' })]);
  await Promise.all([subscribed(sender, name), subscribed(listener, name)]);
  const heard = [];
  listener.channel(name).bind('client-message', (data) => heard.push(data));
  return { sender, listener, heard };
}

suite('the function of the docs', () => {
  test('an event is delivered once, however often it is sent with its id', async (t) => {
    const { sender, heard, listener } = await pair(t, 'private-once');
    assert.equal(await sendOnce(sender, 'private-once', 'client-message', { n: 1 }, { id: 'a', within: PATIENCE }), 'ok');
    assert.equal(await sendOnce(sender, 'private-once', 'client-message', { n: 1 }, { id: 'a', within: PATIENCE }), 'dup');
    assert.equal(await sendOnce(sender, 'private-once', 'client-message', { n: 2 }, { within: PATIENCE }), 'ok');
    assert.equal(await sendOnce(sender, 'private-once', 'client-message', { n: 3 }, { id: 7, within: PATIENCE }), 'ok');
    await settled(listener);
    assert.deepEqual(heard, [{ n: 1 }, { n: 2 }, { n: 3 }]);
    assert.deepEqual(refusals(sender), []);
  });

  test('a refused event rejects with code and text, and may be sent again', async (t) => {
    const { sender, heard, listener } = await pair(t, 'presence-refused');
    const large = { text: 'x'.repeat(20_000) };
    await assert.rejects(sendOnce(sender, 'presence-refused', 'client-message', large, { id: 'b', within: PATIENCE }), (error) => error.code === 4301 && /10 KB/.test(error.message));
    assert.equal(await sendOnce(sender, 'presence-refused', 'client-message', 'small', { id: 'b', within: PATIENCE }), 'ok');
    await settled(listener);
    assert.deepEqual(heard, ['small']);
    assert.deepEqual(refusals(sender).map(({ code }) => code), [4301], 'those who listen for errors hear it, too');
  });

  test('a lost answer and a reconnect: it is sent again, and was delivered once', async (t) => {
    const { sender, heard, listener } = await pair(t, 'private-lost');
    await signedIn(sender);
    // The first answer is lost with the connection that it came over.
    const lost = next(sender.connection, 'message');
    sender.connection.send(JSON.stringify({ event: 'client-message', channel: 'private-lost', data: 'once', id: 'c' }));
    await lost;
    sender.disconnect();
    const answer = sendOnce(sender, 'private-lost', 'client-message', 'once', { id: 'c', within: PATIENCE, every: 50 });
    sender.connect();
    assert.equal(await answer, 'dup');
    await settled(listener);
    assert.deepEqual(heard, ['once']);
  });

  test('nobody answers where receipts are off, and the event passes', async (t) => {
    const others = serverSdk(broker, STOCK);
    const endpoint = await AuthServer.start(others);
    t.after(() => endpoint.stop());
    const people = await Promise.all(['1', '2'].map((user) => connect(t, broker, { key: STOCK.key, auth: endpoint, user })));
    await Promise.all(people.map((pusher) => subscribed(pusher, 'private-off')));
    const heard = [];
    people[1].channel('private-off').bind('client-message', (data) => heard.push(data));
    await assert.rejects(sendOnce(people[0], 'private-off', 'client-message', 1, { within: 500, every: 10_000 }), /no answer to client-message/);
    await settled(...people);
    assert.deepEqual([heard, refusals(people[0])], [[1], []]);
  });
});

suite('stock clients', () => {
  test('trigger is as it was: no answer, no error, and every one is delivered', async (t) => {
    const { sender, heard } = await pair(t, 'private-stock');
    const messages = [];
    sender.connection.bind('message', ({ event }) => messages.push(event));
    for (const n of [1, 1, 2]) sender.channel('private-stock').trigger('client-message', n);
    await eventuallyEqual('three events', () => heard, [1, 1, 2]);
    await settled(sender);
    assert.deepEqual(messages, ['pusher:pong']);
  });

  test('an answer reaches handlers of its channel, and none of the connection but those who ask', async (t) => {
    const { sender } = await pair(t, 'private-bound');
    const acks = [];
    sender.channel('private-bound').bind('holdline:ack', (data) => acks.push(data));
    sender.connection.send(JSON.stringify({ event: 'client-message', channel: 'private-bound', data: 1, id: 'd' }));
    await eventuallyEqual('the answer', () => acks, [{ id: 'd', status: 'ok' }]);
    assert.deepEqual(sender.errors, []);
  });
});
