// sendWithReceipt of clients/js in headless Chromium: what is sent over and over is delivered once.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { APP } from './support/broker.mjs';
import { HOLDS, World, fine } from './support/holds.mjs';
import { PATIENCE, eventually, eventuallyEqual } from './support/waiting.mjs';

const MUTE = { ...APP, id: 'mute-id', key: 'mute-key', secret: 'mute-secret' };

let world;

before(async () => {
  world = await World.start({ apps: [{ ...APP, receipts: true, holds: HOLDS, limits: { receipt_window: '60s' } }, MUTE] });
});

after(() => world?.stop());

/** A page that is on a channel, and notes what it hears there. */
async function listener(t, user, channel, settings) {
  const page = await world.person(t, user, settings);
  await page.evaluate((channel) => new Promise((resolve) => {
    window.heard = [];
    const it = pusher.subscribe(channel);
    it.bind('client-said', ({ text }) => window.heard.push(text));
    it.bind('pusher:subscription_succeeded', resolve);
  }), channel);
  return page;
}

const heard = (page) => page.evaluate('heard');
/** How it ended: the status, or the name, the code and the text of the error. */
const send = (page, channel, data, options = { within: PATIENCE }) =>
  page.evaluate(([channel, data, options]) => sendWithReceipt(client, channel, 'client-said', data, options).catch(({ name, code, message }) => [name, code, message]), [channel, data, options]);

test('it is delivered, and says so; the same once more is known', async (t) => {
  const [ada, bob] = [await listener(t, '42', 'private-chat'), await listener(t, '7', 'private-chat')];
  assert.equal(await send(ada, 'private-chat', { text: 'one' }), 'ok');
  assert.equal(await send(ada, 'private-chat', { text: 'two' }, { id: 7, within: PATIENCE }), 'ok');
  assert.equal(await send(ada, 'private-chat', { text: 'two' }, { id: 7, within: PATIENCE }), 'dup');
  assert.equal(await send(ada, 'private-chat', { text: 'three' }, { id: '7', within: PATIENCE }), 'ok');
  await eventuallyEqual('Bob hears', () => heard(bob), ['one', 'two', 'three']);
  assert.deepEqual(await heard(ada), []);
  fine(ada, bob);
});

test('the connection breaks before the answer comes: it is sent again by the next one, and delivered once', async (t) => {
  const [ada, bob] = [await listener(t, '42', 'private-cut'), await listener(t, '7', 'private-cut')];
  // Who has asked to sign in sends nothing before that.
  const ready = () => eventually('she is there', () => ada.evaluate('pusher.user.user_data && pusher.channel("private-cut").subscribed'));
  for (const text of ['one', 'two', 'three']) {
    await ready();
    const socket = await ada.evaluate('pusher.connection.socket_id');
    const answer = ada.evaluate((text) => {
      const sent = sendWithReceipt(client, 'private-cut', 'client-said', { text }, { within: 30_000, every: 100 });
      // Behind the first attempt; whose answer a socket that is being closed does not hear any more.
      pusher.connection.connection.transport.socket.close();
      return sent;
    }, text);
    assert.match(await answer, /^(ok|dup)$/);
    assert.notEqual(await ada.evaluate('pusher.connection.socket_id'), socket, 'it is another connection');
  }
  await eventuallyEqual('Bob hears each once', () => heard(bob), ['one', 'two', 'three']);
  fine(ada, bob);
});

test('what is refused says why, and what is not answered says that it may have been delivered', async (t) => {
  const ada = await listener(t, '42', 'private-no');
  const [name, code, reason] = await send(ada, 'private-no', { text: 'x'.repeat(12_000) });
  assert.equal(name, 'NotDelivered');
  assert.ok(Number.isInteger(code) && reason.length > 10, `${code} ${reason}`);
  // Nobody is subscribed here, so nothing is sent.
  assert.deepEqual(await send(ada, 'private-elsewhere', {}, { within: 300, every: 50 }), ['NotDelivered', undefined, 'no answer to client-said within 300 ms: it may have been delivered']);
  assert.match(await ada.evaluate(() => { try { sendWithReceipt(client, 'private-no', 'said', {}); } catch (error) { return `${error}`; } }), /TypeError.*client-/);
  fine(ada);
});

test('an application without receipts answers nothing; with an Echo it is the same call', async (t) => {
  const mute = await world.page(await world.browserOf(t, '42'), '/helper.html', { key: MUTE.key });
  world.auth.sdk = (await import('./support/server-sdk.mjs')).serverSdk(world.broker, MUTE);
  await mute.evaluate('use()');
  await mute.evaluate(() => new Promise((resolve) => pusher.subscribe('private-chat').bind('pusher:subscription_succeeded', resolve)));
  assert.equal((await send(mute, 'private-chat', { text: 'hello' }, { within: 500 }))[1], undefined);
  world.auth.sdk = world.sdk;
  const ada = await listener(t, '42', 'private-echo', { kind: 'echo' });
  await eventually('it is ready', () => ada.evaluate('pusher.user.user_data'));
  assert.equal(await send(ada, 'private-echo', { text: 'hello' }), 'ok');
  fine(mute, ada);
});
