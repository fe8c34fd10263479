// The server SDK of npm: refusals with their status and text, users, keep-alive, and requests that no SDK would send.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, suite, test } from 'node:test';
import { APP, Broker, app } from './support/broker.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { jsonOf, refused, serverSdk, textOf } from './support/server-sdk.mjs';

const OTHER = app('other');
const DISABLED = app('disabled', { enabled: false });

let broker, sdk;

before(async () => {
  broker = await Broker.start({ apps: [APP, OTHER, DISABLED] });
  sdk = serverSdk(broker);
});

after(() => broker.stop());

/** A signed request as the SDK signs it, with anything about it changed afterwards; the answer as status, type and text. */
async function signed({ method = 'POST', path = '/apps/app-id/events', body, params, clock = 0, query: edit = (query) => query, headers }) {
  const now = Date.now;
  Date.now = () => now() + clock * 1000;
  const query = edit(sdk.createSignedQueryString({ method, path, body, params }));
  Date.now = now;
  const response = await fetch(`${broker.url}${path}?${query}`, { method, body, headers });
  return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
}

const EVENT = '{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}';

suite('authentication', () => {
  const trigger = (which, options) => serverSdk(broker, which, options).trigger('a', 'e', 1);

  test('wrong secret, unknown key, the key of another application: 401', async () => {
    await refused(trigger({ ...APP, secret: 'wrong' }), 401);
    await refused(trigger({ ...APP, key: 'nokey' }), 401);
    await refused(trigger({ ...APP, key: OTHER.key, secret: OTHER.secret }), 401);
    assert.equal(await textOf(trigger(OTHER)), '{}');
  });

  test('unknown application: 404; disabled application: 403', async () => {
    await refused(trigger({ ...APP, id: 'nobody' }), 404);
    await refused(trigger(DISABLED), 403);
  });

  test('the clock may differ by ten minutes, not more: there is no replay for ever', async () => {
    for (const clock of [-540, 0, 540]) assert.equal((await signed({ body: EVENT, clock })).status, 200, `${clock} s`);
    for (const clock of [-660, 660]) {
      const { status, text } = await signed({ body: EVENT, clock });
      assert.equal(status, 401, `${clock} s`);
      assert.match(text, /^Timestamp expired/);
    }
  });

  test('the order of the query does not matter; its values, the body and the case of the signature do', async () => {
    const reversed = (query) => query.split('&').reverse().join('&');
    assert.equal((await signed({ body: EVENT, query: reversed })).status, 200);
    const upper = (query) => query.replace(/(?<=auth_signature=)\w+/, (hex) => hex.toUpperCase());
    assert.equal((await signed({ body: EVENT, query: upper })).status, 401);
    assert.equal((await signed({ body: EVENT, query: (query) => query.replace('1.0', '2.0') })).status, 401);
    assert.equal((await signed({ body: EVENT, query: (query) => `${query}&extra=1` })).status, 401);
    assert.equal((await signed({ body: EVENT, query: (query) => query.replace(/body_md5=\w+&/, '') })).status, 401);
    assert.equal((await signed({ body: EVENT, query: () => '' })).status, 401);
    const query = sdk.createSignedQueryString({ method: 'POST', path: '/apps/app-id/events', body: EVENT });
    const other = await fetch(`${broker.url}/apps/app-id/events?${query}`, { method: 'POST', body: EVENT.replace('foo', 'bar') });
    assert.equal(other.status, 401);
  });

  test('signed parameters that nobody knows are no reason to refuse', async () => {
    assert.equal((await signed({ body: EVENT, params: { extra: 'yes', a: '1' } })).status, 200);
  });
});

suite('bodies', () => {
  test('what is no JSON, or not that JSON, is 400 with one stable sentence in plain text', async () => {
    const bodies = ['not json', '[]', '"text"', '{"name":1}', '{"name":"a","data":"x"}', '{"name":"a","channel":"b"}', '{"name":"a","channels":"b","data":"x"}'];
    for (const body of bodies) {
      const { status, type, text } = await signed({ body });
      assert.equal(status, 400, body);
      assert.match(type, /^text\/plain/);
      assert.match(text, /^\S[^\n]*\n?$/, 'one line');
      assert.doesNotMatch(text, /line \d+|column \d+|expected|serde|invalid type/, 'the words of a parser are not for clients');
    }
  });

  test('bytes that are no UTF-8', async () => {
    const [before, after] = EVENT.split('foo');
    const body = Buffer.concat([Buffer.from(before), Buffer.from([0xff]), Buffer.from(after)]);
    assert.equal((await signed({ body })).status, 400);
  });

  test('a bad socket id is 400, null is none', async () => {
    const event = { name: 'e', channel: 'a', data: '1' };
    for (const socket_id of ['x', '1', '1.2.3', '', 5]) await refused(sdk.post({ path: '/events', body: { ...event, socket_id } }), 400);
    assert.equal(await textOf(sdk.post({ path: '/events', body: { ...event, socket_id: null } })), '{}');
  });

  test('any content type, and Expect: 100-continue', async () => {
    assert.equal((await signed({ body: EVENT, headers: { 'content-type': 'application/x-www-form-urlencoded' } })).status, 200);
    const query = sdk.createSignedQueryString({ method: 'POST', path: '/apps/app-id/events', body: EVENT });
    const answer = await new Promise((resolve, reject) => {
      const headers = { expect: '100-continue', 'content-length': EVENT.length };
      const request = http.request(`${broker.url}/apps/app-id/events?${query}`, { method: 'POST', headers });
      let continued = false;
      request.on('continue', () => {
        continued = true;
        request.end(EVENT);
      });
      request.on('response', (response) => {
        response.resume();
        resolve({ continued, status: response.statusCode });
      });
      request.on('error', reject);
      request.flushHeaders();
    });
    assert.deepEqual(answer, { continued: true, status: 200 });
  });
});

suite('paths', () => {
  test('404 for what does not exist, 405 for the wrong method', async () => {
    for (const path of ['/nothing', '/apps', '/apps/app-id', '/apps/app-id/nothing', '/apps/app-id/channels/a/nothing', '/pusher/app/app-key/1/2/xhr_streaming']) {
      assert.equal((await signed({ method: 'GET', path })).status, 404, path);
    }
    assert.equal((await signed({ method: 'PUT', path: '/apps/app-id/events' })).status, 405);
    assert.equal((await signed({ method: 'GET', path: '/apps/app-id/batch_events' })).status, 405);
    assert.equal((await signed({ path: '/apps/app-id/channels', body: '{}' })).status, 405);
    assert.equal((await signed({ method: 'GET', path: '/apps/app-id/users/42/terminate_connections' })).status, 405);
  });

  test('health', async () => {
    const text = async (path) => {
      const response = await fetch(`${broker.url}${path}`);
      return [response.status, await response.text()];
    };
    assert.deepEqual(await text('/'), [200, 'OK']);
    assert.deepEqual(await text('/up'), [200, '{"health":"OK"}']);
    assert.deepEqual(await text('/ready'), [200, 'OK']);
    assert.deepEqual(await text('/accept-traffic'), [200, 'OK']);
  });
});

suite('users', () => {
  test('sendToUser reaches the signed-in only', async (t) => {
    const [ada, bob] = [await RawSocket.established(t, broker), await RawSocket.established(t, broker)];
    await ada.signedIn(sdk, { id: '42' });
    await bob.authorised(sdk, 'presence-room', { user_id: '42' });
    assert.equal(await textOf(sdk.sendToUser('42', 'notice', { text: 'hi' })), '{}');
    assert.deepEqual(await ada.drained(), [{ event: 'notice', channel: '#server-to-user-42', data: '{"text":"hi"}' }]);
    assert.deepEqual(await bob.drained(), []);
  });

  test('terminateUserConnections, also for an id that needs escaping', async (t) => {
    const ada = await RawSocket.established(t, broker);
    await ada.subscribe('public-first');
    await ada.signedIn(sdk, { id: 'a=b;c' });
    const path = '/apps/app-id/users/a%3Db%3Bc/terminate_connections';
    assert.deepEqual(await signed({ path, body: '{}' }).then(({ status, text }) => [status, text]), [200, '{}']);
    await ada.refusal(4009, 'You got disconnected by the app.');
  });

  test('one application cannot reach the users of another', async (t) => {
    const ada = await RawSocket.established(t, broker);
    await ada.signedIn(sdk, { id: '42' });
    await ada.subscribe('shared-name');
    const other = serverSdk(broker, OTHER);
    await other.sendToUser('42', 'notice', 'x');
    await other.terminateUserConnections('42');
    await other.trigger('shared-name', 'e', 1);
    assert.deepEqual(await ada.drained(), []);
    assert.deepEqual((await jsonOf(other.get({ path: '/channels' }))).channels, {});
    assert.equal(ada.closed, null);
  });
});

suite('keep-alive', () => {
  test('forty calls of the SDK, refusals among them, go over one connection', async (t) => {
    let opened = 0;
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    const { createConnection } = agent;
    agent.createConnection = (...args) => {
      opened += 1;
      return createConnection.apply(agent, args);
    };
    const calls = serverSdk(broker, APP, { agent });
    for (let n = 0; n < 10; n += 1) {
      await textOf(calls.trigger('a', 'e', n));
      await textOf(calls.get({ path: '/channels' }));
      await refused(calls.post({ path: '/events', body: { name: 'e' } }), 400);
      await refused(calls.get({ path: '/nothing' }), 404);
    }
    assert.equal(opened, 1);
  });
});
