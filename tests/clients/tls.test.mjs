// TLS by real clients, and a certificate that is replaced under load.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { suite, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { connect as tlsConnect } from 'node:tls';
import Echo from 'laravel-echo';
import WebSocket from 'ws';
import { AuthServer } from './support/auth-server.mjs';
import { APP, Broker } from './support/broker.mjs';
import { Certs } from './support/certs.mjs';
import { launch } from './support/desk.mjs';
import { freePort } from './support/ports.mjs';
import { Pusher, client, connect, connected, subscribed } from './support/pusher-js.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { jsonOf, serverSdk } from './support/server-sdk.mjs';
import { PATIENCE, eventually, next } from './support/waiting.mjs';

const require = createRequire(import.meta.url);

/** A broker with TLS, and the SDK that publishes over it. */
async function withTls(t, { tls = {}, ...config } = {}) {
  const certs = new Certs(t).issue('one').install('one');
  const broker = await Broker.during(t, { ...config, tls: { ...certs.tls, ...tls } });
  return { certs, broker, sdk: serverSdk(broker, APP, { useTLS: true }) };
}

/** The name in the certificate that the broker shows now. */
function shown(broker) {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({ host: '127.0.0.1', port: broker.port }, () => {
      resolve(socket.getPeerCertificate().subject.CN);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

const url = (broker) => `wss://127.0.0.1:${broker.port}/app/${APP.key}?protocol=7`;

suite('clients', () => {
  test('pusher-js over wss, private channels and the server SDK over https', async (t) => {
    const { broker, sdk } = await withTls(t);
    const auth = await AuthServer.start(sdk);
    t.after(() => auth.stop());
    const page = await connect(t, broker, { wssPort: broker.port, forceTLS: true, auth, user: '42' });
    const [open, closed] = [await subscribed(page, 'orders'), await subscribed(page, 'private-orders')];
    for (const channel of [open, closed]) {
      const arrived = next(channel, 'shipped');
      assert.deepEqual(await jsonOf(sdk.trigger(channel.name, 'shipped', { text: 'Zoë '.repeat(1_000) })), {});
      assert.equal((await arrived).text.length, 4_000);
    }
  });

  test('a client that does not trust the authority stays away, and a plain one is not served', async (t) => {
    const { broker } = await withTls(t);
    const failure = (address, options) => new Promise((resolve) => new WebSocket(address, options).on('error', resolve));
    const distrust = await failure(url(broker), { ca: [] });
    assert.match(distrust.code, /UNABLE_TO|SELF_SIGNED|CERT/);
    const plain = await failure(url(broker).replace('wss:', 'ws:'));
    assert.ok(plain, 'no WebSocket');
    assert.equal(await shown(broker), 'one');
  });

  for (const broadcaster of ['pusher', 'reverb']) {
    test(`Laravel Echo with forceTLS, broadcaster ${broadcaster}`, async (t) => {
      const { broker, sdk } = await withTls(t);
      const page = new Echo({
        broadcaster, Pusher, key: APP.key, cluster: 'mt1', wsHost: '127.0.0.1', wsPort: broker.port, wssPort: broker.port,
        forceTLS: true, enabledTransports: ['ws', 'wss'], disableStats: true,
      });
      t.after(() => page.disconnect());
      const seen = [];
      let ready = false;
      page.channel('orders').listen('OrderShipped', (data) => seen.push(data)).subscribed(() => (ready = true));
      await eventually('the subscription', () => ready);
      await sdk.trigger('orders', 'App\\Events\\OrderShipped', { id: 1 });
      await eventually('the event', () => seen.length === 1);
    });
  }

  test('force_tls sends pusher-js from ws to wss', async (t) => {
    const plain = await freePort();
    const { broker } = await withTls(t, { apps: [{ ...APP, force_tls: true }], tls: { plain_bind: `127.0.0.1:${plain}` } });
    const page = client(t, broker, { wsPort: plain, wssPort: broker.port, enabledTransports: ['ws', 'wss'] });
    await connected(page);
    assert.equal(page.connection.usingTLS, true);
    const raw = await RawSocket.open(t, { port: plain });
    await raw.refusal(4000, 'Application only accepts SSL connections, reconnect using wss://');
  });

  test('Chromium', async (t) => {
    const { broker, sdk } = await withTls(t);
    const auth = await AuthServer.start(sdk);
    t.after(() => auth.stop());
    auth.pages.set('/', '<!doctype html><script src="/pusher.js"></script>');
    auth.pages.set('/pusher.js', readFileSync(new URL('../web/pusher.js', `file://${require.resolve('pusher-js')}`)));
    const browser = await launch('--ignore-certificate-errors');
    t.after(() => browser.close());
    const page = await browser.newPage();
    await page.goto(auth.url);
    await page.evaluate(async ({ key, port }) => {
      const pusher = new Pusher(key, { cluster: '', wsHost: '127.0.0.1', wssPort: port, forceTLS: true, enabledTransports: ['ws', 'wss'] });
      const channel = pusher.subscribe('orders');
      window.arrived = new Promise((resolve) => channel.bind('shipped', resolve));
      await new Promise((resolve) => channel.bind('pusher:subscription_succeeded', resolve));
    }, { key: APP.key, port: broker.port });
    await sdk.trigger('orders', 'shipped', { id: 7 });
    assert.deepEqual(await page.evaluate(() => window.arrived), { id: 7 });
  });
});

/** A live connection that counts what comes. */
class Reader {
  numbers = [];
  ended = null;

  constructor(broker) {
    this.socket = new WebSocket(url(broker), { perMessageDeflate: false });
    this.socket.on('message', (data) => {
      const frame = JSON.parse(data.toString());
      if (frame.event === 'pusher:connection_established') this.socket.send('{"event":"pusher:subscribe","data":{"channel":"load"}}');
      if (frame.event === 'pusher_internal:subscription_succeeded') this.subscribed = true;
      if (frame.event === 'n') this.numbers.push(Number(frame.data));
    });
    this.socket.on('close', (code) => (this.ended ??= code));
    this.socket.on('error', (error) => (this.ended ??= error));
  }
}

test('certificates change under load: nobody is cut off, nothing is lost, newcomers see the new one', async (t) => {
  const { certs, broker, sdk } = await withTls(t);
  for (const name of ['two', 'three', 'four']) certs.issue(name);
  const readers = [];
  t.after(() => readers.forEach(({ socket }) => socket.terminate()));
  // A few at a time: the broker turns away whose handshake takes too long, and so it may when a busy machine makes 200 at once.
  while (readers.length < 200) {
    const few = Array.from({ length: 10 }, () => new Reader(broker));
    readers.push(...few);
    await eventually('they are subscribed', () => few.every((reader) => reader.subscribed || assert.equal(reader.ended, null)));
  }

  let on = true;
  let published = 0;
  const publishing = (async () => {
    for (; on; await pause(2)) await sdk.trigger('load', 'n', String(published++));
  })();
  // Whoever is in the middle of a handshake while the certificate changes gets one or the other, and in.
  let knocks = 0;
  const knocking = (async () => {
    for (; on; await pause(5)) {
      const reader = new Reader(broker);
      await eventually('a newcomer is in', () => reader.subscribed || assert.equal(reader.ended, null));
      reader.socket.terminate();
      knocks += 1;
    }
  })();

  const becomes = (name) => eventually(`${name} is shown`, async () => (await shown(broker)) === name);
  const complaints = () => broker.messages().filter((text) => text.startsWith('Keeping the TLS certificate in use'));
  certs.install('two');
  await becomes('two');
  // One half of a new pair: the old one stays, as a pair. The broker may have come upon the last pair half-way, too.
  const before = complaints().length;
  certs.install('three', ['pem']);
  await eventually('it is complained of', () => complaints().length > before);
  assert.equal(await shown(broker), 'two');
  const complaint = complaints().at(-1);
  assert.ok(complaint.includes(certs.path('tls.pem')) && complaint.includes(certs.path('tls.key')), complaint);
  certs.install('three', ['key']);
  await becomes('three');
  certs.install('four');
  broker.signal('SIGHUP');
  await becomes('four');
  await eventually('there was load', () => published > 100 && knocks > 20, { within: 2 * PATIENCE });
  on = false;
  await Promise.all([publishing, knocking]);

  const all = Array.from({ length: published }, (_, number) => number);
  await eventually('everybody has everything', () => readers.every(({ numbers }) => numbers.length >= published), { within: 2 * PATIENCE });
  for (const reader of readers) {
    assert.deepEqual(reader.numbers, all);
    assert.equal(reader.ended, null);
  }
});
