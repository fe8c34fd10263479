// Behind nginx as config/deploy/nginx.conf sets it up: TLS ends there, and there is a path prefix.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import WebSocket from 'ws';
import { APP, Broker } from './support/broker.mjs';
import { CA, Certs } from './support/certs.mjs';
import { nginx } from './support/nginx.mjs';
import { connect, subscribed } from './support/pusher-js.mjs';
import { jsonOf, serverSdk } from './support/server-sdk.mjs';
import { eventually, next } from './support/waiting.mjs';

const PREFIX = '/realtime';
/** Another address of this machine than the proxy's: whoever it is, it is no proxy of ours. */
const STRANGER = '127.0.0.9';

/** A broker with nginx in front, over TCP or over the unix socket. */
const WAYS = {
  'over TCP': async (t, certs) => {
    const broker = await Broker.during(t, { apps: [{ ...APP, force_tls: true }], server: { path_prefix: PREFIX, trusted_proxies: ['127.0.0.1'] } });
    return { broker, proxy: await nginx(t, certs, `127.0.0.1:${broker.port}`) };
  },
  'over the unix socket': async (t, certs) => {
    const server = { path_prefix: PREFIX, unix_socket: 'holdline.sock', trusted_proxies: ['unix'] };
    const broker = await Broker.during(t, { apps: [{ ...APP, force_tls: true }], server });
    return { broker, proxy: await nginx(t, certs, `unix:${join(broker.directory, 'holdline.sock')}`) };
  },
};

/** The server SDK through the proxy: whatever stands in front of the path is part of its host. */
const sdkThrough = (proxy) => serverSdk(proxy, APP, { host: `127.0.0.1:${proxy.port}${PREFIX}`, port: undefined, useTLS: true });

/** A raw socket through the proxy, from STRANGER; its frames. */
async function stranger(t, proxy, headers) {
  const url = `wss://127.0.0.1:${proxy.port}${PREFIX}/app/${APP.key}?protocol=7`;
  const socket = new WebSocket(url, { localAddress: STRANGER, headers, perMessageDeflate: false });
  const frames = [];
  socket.on('message', (data) => frames.push(JSON.parse(data.toString())));
  t.after(() => socket.terminate());
  const hello = await eventually('the handshake', () => frames[0]);
  return { socket, frames, id: JSON.parse(hello.data).socket_id };
}

for (const [way, start] of Object.entries(WAYS)) {
  suite(way, () => {
    test('pusher-js and the server SDK, signatures included', async (t) => {
      const certs = new Certs(t).issue('nginx').install('nginx');
      const { proxy } = await start(t, certs);
      const sdk = sdkThrough(proxy);
      const page = await connect(t, proxy, { wsPath: PREFIX, wssPort: proxy.port, forceTLS: true });
      const channel = await subscribed(page, 'orders');
      const arrived = next(channel, 'shipped');
      assert.deepEqual(await jsonOf(sdk.trigger('orders', 'shipped', { id: 7 })), {});
      assert.deepEqual(await arrived, { id: 7 });
      const batch = next(channel, 'two');
      await sdk.triggerBatch([{ channel: 'orders', name: 'two', data: 'x' }]);
      assert.equal(await batch, 'x');
      const state = await jsonOf(sdk.get({ path: '/channels/orders', params: { info: 'subscription_count' } }));
      assert.deepEqual(state, { occupied: true, subscription_count: 1 });
      const wrong = serverSdk(proxy, { ...APP, secret: 'wrong' }, { host: `127.0.0.1:${proxy.port}${PREFIX}`, port: undefined, useTLS: true });
      await assert.rejects(wrong.trigger('orders', 'shipped', {}), { status: 401 });
    });

    test('the client has its own address, and cannot choose another', async (t) => {
      const certs = new Certs(t).issue('nginx').install('nginx');
      const { proxy } = await start(t, certs);
      const sdk = sdkThrough(proxy);
      for (const headers of [
        {},
        { 'X-Forwarded-For': '192.0.2.1' },
        { 'X-Forwarded-For': '192.0.2.1, 127.0.0.1' },
        { 'X-Forwarded-For': '"', 'X-Forwarded-Proto': 'http' },
        { Forwarded: 'for=192.0.2.1;proto=http', 'X-Real-IP': '192.0.2.1' },
      ]) {
        const { id } = await stranger(t, proxy, headers);
        const { remote_ip } = await jsonOf(sdk.get({ path: `/sockets/${id}` }));
        assert.equal(remote_ip, STRANGER, JSON.stringify(headers));
      }
    });

    test('curl asks for the health', async (t) => {
      const certs = new Certs(t).issue('nginx').install('nginx');
      const { broker, proxy } = await start(t, certs);
      const curl = (...args) => execFileSync('curl', ['--silent', '--show-error', '--fail', '--cacert', CA, ...args], { encoding: 'utf8' });
      assert.equal(curl(`https://127.0.0.1:${proxy.port}${PREFIX}/up`), '{"health":"OK"}');
      if (way === 'over the unix socket') {
        assert.equal(curl('--unix-socket', join(broker.directory, 'holdline.sock'), 'http://holdline/up'), '{"health":"OK"}');
      }
    });
  });
}

test('a WebSocket straight over the unix socket', async (t) => {
  const broker = await Broker.during(t, { server: { unix_socket: 'holdline.sock' } });
  const path = join(broker.directory, 'holdline.sock');
  const socket = new WebSocket(`ws+unix://${path}:/app/${APP.key}?protocol=7`, { perMessageDeflate: false });
  const frames = [];
  socket.on('message', (data) => frames.push(JSON.parse(data.toString())));
  t.after(() => socket.terminate());
  await eventually('the handshake', () => frames[0]?.event === 'pusher:connection_established');
  socket.send(JSON.stringify({ event: 'pusher:subscribe', data: { channel: 'news' } }));
  await eventually('the subscription', () => frames[1]?.event === 'pusher_internal:subscription_succeeded');
  const sdk = serverSdk(broker);
  await sdk.trigger('news', 'e', 'x');
  await eventually('the event', () => frames[2]?.data === 'x');
  const { sockets } = await jsonOf(sdk.get({ path: '/sockets' }));
  assert.equal(sockets[0].remote_ip, null, 'nobody has an address there');
});
