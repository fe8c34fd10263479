// clients/laravel: its files in an application with Laravel's own router and Eloquent, on SQLite and on PostgreSQL, told by the real broker.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { LockLost, saveHolding } from '../../clients/laravel/resources/js/saveHolding.js';
import { AuthServer } from './support/auth-server.mjs';
import { APP, Broker } from './support/broker.mjs';
import { HOLDS } from './support/holds.mjs';
import { freePort } from './support/ports.mjs';
import { Postgres } from './support/postgres.mjs';
import { connect, signedIn } from './support/pusher-js.mjs';
import { serverSdk } from './support/server-sdk.mjs';
import { PATIENCE, always, eventually, eventuallyEqual, next } from './support/waiting.mjs';

const RECIPE = fileURLToPath(new URL('../../clients/laravel/', import.meta.url));
const APPLICATION = fileURLToPath(new URL('support/laravel-orders.php', import.meta.url));

test('every file of the recipe is PHP', () => {
  const files = readdirSync(RECIPE, { recursive: true }).filter((name) => name.endsWith('.php'));
  assert.ok(files.length >= 14, files.join());
  for (const name of files) execFileSync('php', ['-l', join(RECIPE, name)]);
});

// A failed test must leave no process behind.
const running = new Set();
const kill = (server) => {
  running.delete(server);
  try {
    process.kill(-server.pid, 'SIGKILL');
  } catch {
    // It is gone.
  }
};
process.once('exit', () => running.forEach(kill));

/** PHP's own server, with several workers: one of them may wait. */
async function serve(t, database, env = {}) {
  const port = await freePort();
  const settings = { PATH: process.env.PATH, DATABASE: database, PUSHER_APP_SECRET: APP.secret, PHP_CLI_SERVER_WORKERS: '4', ...env };
  // A group of its own: its workers end with it.
  const server = spawn('php', ['-S', `127.0.0.1:${port}`, APPLICATION], { env: settings, stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  server.log = '';
  server.stderr.on('data', (text) => (server.log += text));
  running.add(server);
  t.after(() => kill(server));
  const url = `http://127.0.0.1:${port}`;
  await eventually('the application answers', async () => (await fetch(`${url}/inbox`)).ok);
  return { url, server };
}

const databases = {
  sqlite: () => `sqlite:${join(place, `orders-${++number}.sqlite`)}`,
  pgsql: () => postgres.database(`orders_${++number}`),
};
let place, postgres, auth, number = 0;

before(async () => {
  place = mkdtempSync(join(tmpdir(), 'holdline-laravel-'));
  postgres = await Postgres.start();
  auth = await AuthServer.start();
});

after(async () => {
  await postgres?.stop();
  await auth?.stop();
  rmSync(place, { recursive: true, force: true });
});

/** A shop: its database, its application, and a broker that tells it what happens. */
class Shop {
  static async open(t, kind, env) {
    const shop = new Shop();
    const database = databases[kind]();
    if (kind === 'sqlite') writeFileSync(database.slice('sqlite:'.length), '');
    execFileSync('php', [APPLICATION, 'migrate'], { env: { PATH: process.env.PATH, DATABASE: database } });
    Object.assign(shop, await serve(t, database, env));
    const listeners = [{ name: 'shop', kind: 'http', url: `${shop.url}/holdline` }];
    shop.broker = await Broker.during(t, { apps: [{ ...APP, holds: HOLDS }], listeners });
    auth.sdk = shop.sdk = serverSdk(shop.broker);
    return shop;
  }

  /** Opens an order as a user, when it is nobody's, and answers what the page is told. */
  async take(t, user, order) {
    const pusher = await signedIn(await connect(t, this.broker, { auth, user }));
    await eventually('the order is free', async () => {
      const { locks } = await (await this.sdk.get({ path: '/locks' })).json();
      return locks.every(({ resource }) => resource !== `order:${order}`);
    });
    const locked = next(pusher.subscribe(`private-order.${order}`), 'holdline:locked', { unless: 'pusher:subscription_error' });
    return { pusher, ...(await locked) };
  }

  /** A worker of PHP's server that waits for something may have taken this connection besides: then another one answers the next. */
  async order(id) {
    const ask = async () => (await fetch(`${this.url}/orders/${id}`, { signal: AbortSignal.timeout(2_000) })).json();
    return eventually('an answer', ask, { within: 2 * PATIENCE });
  }

  async becomes(id, expected) {
    await eventuallyEqual(`order ${id}`, async () => {
      const { locked_by, lock_fence } = await this.order(id);
      return [locked_by, Number(lock_fence)];
    }, expected, { within: 2 * PATIENCE });
  }

  async put(path, fence, fields = {}, more = {}) {
    const headers = { 'Content-Type': 'application/json', ...more, ...(fence !== undefined && { 'X-Holdline-Fence': String(fence) }) };
    const response = await fetch(`${this.url}${path}`, { method: 'PUT', headers, body: JSON.stringify(fields) });
    const text = await response.text();
    return [response.status, response.headers.get('content-type').includes('json') ? JSON.parse(text) : text, response.headers.get('retry-after')];
  }

  /** A delivery as the broker's, signed with whatever. */
  async deliver(entry, { secret = APP.secret, signature } = {}) {
    const body = typeof entry === 'string' ? entry : JSON.stringify(entry);
    const headers = { 'Content-Type': 'application/json', 'X-Pusher-Signature': signature ?? createHmac('sha256', secret).update(body).digest('hex') };
    const response = await fetch(`${this.url}/holdline`, { method: 'POST', headers, body });
    const text = await response.text();
    return [response.status, text && JSON.parse(text).error];
  }

  inbox = async () => (await fetch(`${this.url}/inbox`)).json();
}

const lock = (kind, fence, order = 5, more = {}) => ({
  id: `0:${fence}-${kind}`, kind, type: `Order${kind === 'locked' ? 'Locked' : 'Unlocked'}`, resource: `order:${order}`, principal: `user:${fence}`, fence,
  cause: kind === 'unlocked' ? 'gone' : null, context: {}, ...more,
});

for (const kind of Object.keys(databases)) {
  suite(`on ${kind}`, () => {
    test('from the lock to the save: only with the fence of the lock that is alive', async (t) => {
      const shop = await Shop.open(t, kind);
      const ada = await shop.take(t, '42', 1);
      await shop.becomes(1, ['user:42', ada.fence]);
      assert.deepEqual(await shop.put('/orders/1', ada.fence, { note: 'by Ada' }), [200, { note: 'by Ada', locked_by: 'user:42' }, null]);
      // A form brings it as a field.
      assert.equal((await shop.put('/orders/1', undefined, { note: 'by form', holdline_fence: String(ada.fence) }))[0], 200);

      const refused = async (fence, fields) => {
        const [status, { error, message, fence: named }, again] = await shop.put('/orders/1', fence, { note: 'never', ...fields });
        assert.ok(message.length > 10);
        return [status, error, named, again];
      };
      assert.deepEqual(await refused(), [428, 'fence_required', undefined, null]);
      assert.deepEqual(await refused('17 OR 1=1'), [400, 'fence_invalid', undefined, null]);
      assert.deepEqual(await refused('-1'), [400, 'fence_invalid', undefined, null]);
      assert.deepEqual(await refused('99999999999999999999'), [400, 'fence_invalid', undefined, null]);
      assert.deepEqual(await refused(undefined, { holdline_fence: ['17'] }), [400, 'fence_invalid', undefined, null]);
      assert.deepEqual(await refused(ada.fence + 1), [409, 'lock_not_known_yet', ada.fence + 1, '1']);

      ada.pusher.unsubscribe('private-order.1');
      await shop.becomes(1, [null, ada.fence]);
      assert.deepEqual(await refused(ada.fence), [409, 'lock_ended', ada.fence, null]);
      const bob = await shop.take(t, '7', 1);
      await shop.becomes(1, ['user:7', bob.fence]);
      assert.deepEqual(await refused(ada.fence), [409, 'lock_taken_over', ada.fence, null]);
      assert.equal((await shop.order(1)).note, 'by form');
      assert.equal((await shop.put('/orders/1', bob.fence, { note: 'by Bob' }))[0], 200);
      assert.equal((await shop.put('/orders/4711', bob.fence))[0], 404);
      assert.match((await shop.put('/unbound/1', bob.fence))[1], /LogicException: the route's \{order\} must be bound/);
    });

    test('the model: saveHolding and whereLockFence', async (t) => {
      const shop = await Shop.open(t, kind);
      const ada = await shop.take(t, '42', 2);
      await shop.becomes(2, ['user:42', ada.fence]);
      assert.deepEqual((await shop.put('/model/2', ada.fence, { note: 'model' })).slice(0, 2), [200, { locked: true }]);
      assert.deepEqual((await shop.put('/scope/2', ada.fence, { note: 'scope' })).slice(0, 2), [200, { saved: 1 }]);
      assert.deepEqual((await shop.put('/model/2', ada.fence - 1 || 99, { note: 'never' }))[0], 409);
      assert.deepEqual((await shop.put('/scope/2', ada.fence + 1, { note: 'never' }))[1], { saved: 0 });
      ada.pusher.unsubscribe('private-order.2');
      await shop.becomes(2, [null, ada.fence]);
      const [status, { error }] = await shop.put('/model/2', ada.fence, { note: 'never' });
      assert.deepEqual([status, error], [409, 'lock_ended']);
      assert.deepEqual((await shop.put('/scope/2', ada.fence, { note: 'never' }))[1], { saved: 0 });
      assert.equal((await shop.order(2)).note, 'scope');
    });

    test('a save that fails leaves nothing, and one that takes its time is not overtaken', async (t) => {
      const shop = await Shop.open(t, kind);
      const ada = await shop.take(t, '42', 3);
      await shop.becomes(3, ['user:42', ada.fence]);
      for (const [fail, status] of [['throw', 500], ['refuse', 422]]) {
        assert.equal((await shop.put('/orders/3', ada.fence, { note: 'half', fail }))[0], status);
        assert.equal((await shop.order(3)).note, '');
      }
      const gate = join(place, `gate-${kind}`);
      const saving = shop.put('/orders/3', ada.fence, { note: 'slow', wait_for: gate });
      await eventually('the check has passed', () => existsSync(`${gate}.reached`));
      assert.equal((await shop.order(3)).note, '', 'nothing is saved yet');
      // An operator ends the lock. The end waits at the row.
      assert.equal((await shop.sdk.post({ path: `/locks/${ada.fence}/release`, body: {} })).status, 200);
      await always('the row is as it was', async () => (await shop.order(3)).locked_by === 'user:42', { during: 700 });
      writeFileSync(gate, '');
      assert.deepEqual((await saving).slice(0, 2), [200, { note: 'slow', locked_by: 'user:42' }]);
      await shop.becomes(3, [null, ada.fence]);
      assert.equal((await shop.order(3)).note, 'slow');
    });

    test('two saves at once: the second one sees what came of the first', async (t) => {
      const shop = await Shop.open(t, kind);
      const ada = await shop.take(t, '42', 8);
      await shop.becomes(8, ['user:42', ada.fence]);
      const gate = join(place, `second-${kind}`);
      const first = shop.put('/orders/8', ada.fence, { note: 'first', wait_for: gate });
      await eventually('it takes its time', () => existsSync(`${gate}.reached`));
      // It has read the order before the first one is through, and waits for the row.
      const read = join(place, `read-${kind}`);
      const second = shop.put('/orders/8', ada.fence, {}, { 'X-Tell': read });
      await eventually('it has read it', () => existsSync(read));
      await always('it waits', async () => (await Promise.race([second, 'waits'])) === 'waits', { during: 500 });
      writeFileSync(gate, '');
      assert.deepEqual([(await first)[1].note, (await second)[1].note], ['first', 'first']);
    });

    test('the application is away: what ended meanwhile arrives when it is back, once, in order', async (t) => {
      const shop = await Shop.open(t, kind);
      const ada = await shop.take(t, '42', 4);
      await shop.becomes(4, ['user:42', ada.fence]);
      process.kill(-shop.server.pid, 'SIGSTOP');
      ada.pusher.unsubscribe('private-order.4');
      const bob = await shop.take(t, '7', 4);
      bob.pusher.unsubscribe('private-order.4');
      process.kill(-shop.server.pid, 'SIGCONT');
      await shop.becomes(4, [null, bob.fence]);
      await eventuallyEqual('each entry', async () => (await shop.inbox()).length, 4);
    });

    test('what is done about an entry is done once, in the transaction in which it is accepted', async (t) => {
      const shop = await Shop.open(t, kind);
      const accept = async (id, headers = {}) => {
        const body = JSON.stringify(lock('locked', 1, 7, { id }));
        return (await fetch(`${shop.url}/inbox/7`, { method: 'PUT', body, headers: { 'Content-Type': 'application/json', ...headers } })).status;
      };
      assert.equal(await accept('a', { 'X-Fail': 'yes' }), 500);
      assert.equal((await shop.order(7)).note, '');
      const statuses = await Promise.all(Array.from({ length: 20 }, (_, n) => accept(n % 2 ? 'a' : 'b')));
      assert.deepEqual(statuses.filter((status) => ![200, 500].includes(status)), []);
      // SQLite may turn one of two away that write at the same moment; it comes again.
      for (const id of ['a', 'b']) await eventuallyEqual('it is accepted', () => accept(id), 200);
      assert.equal((await shop.order(7)).note, 'xx');
      assert.deepEqual(await shop.inbox(), ['a', 'b']);
      assert.deepEqual(await (await fetch(`${shop.url}/inbox`, { method: 'DELETE' })).json(), [0, 2]);
    });

    test('deliveries that are forged, broken, repeated, late or out of order', async (t) => {
      const shop = await Shop.open(t, kind, { PUSHER_APP_PREVIOUS_SECRET: 'the secret before' });
      assert.deepEqual(await shop.deliver(lock('locked', 1), { secret: 'another' }), [401, 'signature_invalid']);
      assert.deepEqual(await shop.deliver(lock('locked', 1), { signature: '' }), [401, 'signature_invalid']);
      assert.deepEqual(await shop.deliver(lock('locked', 1), { secret: '' , signature: createHmac('sha256', ' ').update('x').digest('hex') }), [401, 'signature_invalid']);
      for (const broken of ['no JSON', '[]', '"text"', lock('locked', 1, 5, { fence: null }), lock('locked', 1, 5, { fence: '1' }), lock('locked', 1, 5, { principal: 7 }), lock('locked', 1, 5, { id: '' })]) {
        assert.deepEqual(await shop.deliver(broken), [400, 'entry_invalid'], JSON.stringify(broken));
      }
      assert.deepEqual(await shop.inbox(), []);
      await shop.becomes(5, [null, 0]);

      // Both secrets count while they are being changed.
      assert.deepEqual(await shop.deliver(lock('locked', 10)), [204, '']);
      await shop.becomes(5, ['user:10', 10]);
      assert.deepEqual(await shop.deliver(lock('unlocked', 10), { secret: 'the secret before' }), [204, '']);
      await shop.becomes(5, [null, 10]);
      // Sent again by somebody who has listened: known, and without effect even if it were not.
      for (const id of ['0:10-locked', 'unknown']) {
        assert.deepEqual(await shop.deliver(lock('locked', 10, 5, { id })), [204, '']);
        await shop.becomes(5, [null, 10]);
      }
      // The end of a lock whose beginning has not come, and then the beginning.
      await shop.deliver(lock('unlocked', 12));
      await shop.deliver(lock('locked', 12));
      await shop.becomes(5, [null, 12]);
      await shop.deliver(lock('locked', 14));
      await shop.deliver(lock('unlocked', 13));
      await shop.deliver(lock('locked', 11));
      await shop.becomes(5, ['user:14', 14]);
      // Entries about something else are receipts, and no errors: they would come for ever.
      for (const resource of ['invoice:5', 'order:x', 'order:', `order:${'9'.repeat(40)}`, 'order:4711']) {
        assert.deepEqual(await shop.deliver(lock('unlocked', 20, 5, { resource, id: resource })), [204, '']);
      }
      assert.deepEqual(await shop.deliver({ id: 'e', kind: 'event', type: 'Shipped', resource: 'order:5', principal: null, fence: null, cause: null, context: { a: 1 } }), [204, '']);
      await shop.becomes(5, ['user:14', 14]);
      // Twenty of the same at once, each in a process of its own.
      const inbox = (await shop.inbox()).length;
      const answers = await Promise.all(Array.from({ length: 20 }, () => shop.deliver(lock('unlocked', 14))));
      assert.deepEqual(new Set(answers.map(String)), new Set(['204,']));
      assert.equal((await shop.inbox()).length, inbox + 1);
      await shop.becomes(5, [null, 14]);
      assert.doesNotMatch(shop.server.log, /Fatal|Warning|Notice/);
    });
  });
}

test('an application without a secret believes nobody', async (t) => {
  const shop = await Shop.open(t, 'sqlite', { PUSHER_APP_SECRET: '' });
  assert.deepEqual(await shop.deliver(lock('locked', 1), { secret: '' }), [401, 'signature_invalid']);
});

test('the page: tries again while the listener is a moment behind, and says who has lost', async (t) => {
  const shop = await Shop.open(t, 'sqlite');
  await shop.deliver(lock('locked', 20, 6));
  const url = `${shop.url}/orders/6`;
  assert.equal((await saveHolding({ fence: 20 }, url, { note: 'a' })).status, 200);
  const answers = [];
  const send = async (...about) => {
    const answer = await fetch(...about);
    answers.push(answer.status);
    return answer;
  };
  const ahead = saveHolding({ fence: 22 }, url, { note: 'b' }, { send, tries: 60 });
  await eventually('it was too early', () => answers.length > 0);
  assert.equal(answers[0], 409);
  await shop.deliver(lock('unlocked', 20, 6));
  await shop.deliver(lock('locked', 22, 6));
  assert.equal((await ahead).status, 200);
  assert.equal((await shop.order(6)).note, 'b');
  await assert.rejects(saveHolding({ fence: 20 }, url, { note: 'c' }), (error) => error instanceof LockLost && error.code === 'lock_taken_over');
  await assert.rejects(saveHolding({ fence: 30 }, url, { note: 'c' }, { tries: 1 }), (error) => error.code === 'lock_not_known_yet');
  assert.equal((await saveHolding({ fence: undefined }, url, { note: 'c' })).status, 428);
});
