// The Node server SDK: publishes with an Idempotency-Key, with the very function that src/docs/receipts.md shows.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { Broker } from './support/broker.mjs';
import { connect, settled, subscribed } from './support/pusher-js.mjs';
import { serverSdk } from './support/server-sdk.mjs';

let broker, sdk, publishOnce;

before(async () => {
  const docs = await readFile(new URL('../../src/docs/receipts.md', import.meta.url), 'utf8');
  const [, shown] = docs.match(/```js\n(\/\*\* Publishes one event under a key[^]*?)```/);
  ({ publishOnce } = await import(`data:text/javascript,${encodeURIComponent(shown)}`));
  broker = await Broker.start();
  sdk = serverSdk(broker);
});

after(() => broker.stop());

const shipped = (id) => ({ name: 'OrderShipped', channel: 'orders', data: JSON.stringify({ id }) });

test('a publish is done once, before and after a crash, however many ask for it at once', async (t) => {
  const first = await connect(t, broker);
  const heard = [];
  (await subscribed(first, 'orders')).bind('OrderShipped', (data) => heard.push(data));
  const answers = await Promise.all(Array.from({ length: 8 }, () => publishOnce(sdk, 'job-1', shipped(42))));
  assert.deepEqual(answers.map(({ status }) => status), Array(8).fill(200));
  assert.equal(answers.filter(({ headers }) => headers.get('Idempotent-Replayed') === null).length, 1);
  assert.equal((await publishOnce(sdk, 'job-1', shipped(43))).status, 422);
  await settled(first);
  assert.deepEqual(heard, [{ id: 42 }]);
  first.disconnect();
  await broker.kill();
  await broker.startAgain();
  const second = await connect(t, broker);
  (await subscribed(second, 'orders')).bind('OrderShipped', (data) => heard.push(data));
  const again = await publishOnce(sdk, 'job-1', shipped(42));
  assert.deepEqual([again.status, again.headers.get('Idempotent-Replayed'), await again.json()], [200, 'true', {}]);
  await sdk.trigger('orders', 'OrderShipped', { id: 44 });
  await settled(second);
  assert.deepEqual(heard, [{ id: 42 }, { id: 44 }]);
});
