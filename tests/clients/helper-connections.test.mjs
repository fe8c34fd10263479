// clients/js in headless Chromium, when connections break, the broker is killed, or its database does not answer.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, suite, test } from 'node:test';
import { World, at, becomes, fine, log, open, take } from './support/holds.mjs';
import { PATIENCE, always, eventually, eventuallyEqual } from './support/waiting.mjs';

let world;

before(async () => {
  world = await World.start();
});

after(() => world?.stop());

suite('connections that break', () => {
  test('within its grace it is resumed, with the same fence; the sign-in is waited for', async (t) => {
    // Its endpoint answers later than that of the channel.
    const ada = await world.person(t, '42', { signin: 'late' });
    const { fence } = await take(ada, 'private-order.30');
    await ada.evaluate('pusher.connection.connection.transport.socket.close()');
    await eventually('she knows', async () => (await log(ada)).includes('held>uncertain'));
    assert.equal(await ada.evaluate('window.h.fence'), fence);
    await eventually('it is hers again', async () => (await log(ada)).includes('uncertain>held'));
    const { outcome, holder } = await at(ada);
    assert.deepEqual([outcome, holder, (await at(ada)).fence], ['resumed', 'user:42', fence]);
    assert.ok(!(await log(ada)).some((entry) => entry[0] === 'lost'));
    fine(ada);
  });

  test('without a grace it is another lock: first lost, then held', async (t) => {
    const ada = await world.person(t, '42');
    const { fence } = await take(ada, 'private-brief.1');
    await ada.evaluate('pusher.connection.connection.transport.socket.close()');
    await eventually('it is hers again', async () => (await at(ada)).fence > fence);
    assert.deepEqual((await log(ada)).filter((entry) => Array.isArray(entry)).map(([what, { fence: of, cause }]) => [what, of > fence, cause]), [
      ['held', false, undefined], ['lost', false, 'not_resumed'], ['held', true, undefined],
    ]);
    fine(ada);
  });

  test('somebody else was faster: lost, and refused', async (t) => {
    const [ada, bob] = [await world.person(t, '42'), await world.person(t, '7')];
    await take(ada, 'private-brief.2');
    await open(bob, 'private-brief.2', { retry: true });
    await becomes(bob, 'refused');
    // She is back in a second, but may not ask before he has it.
    let allow;
    const allowed = new Promise((resolve) => (allow = resolve));
    await ada.route('**/broadcasting/*', (route) => allowed.then(() => route.continue()));
    await ada.evaluate('pusher.connection.connection.transport.socket.close()');
    await becomes(bob, 'held');
    allow();
    await becomes(ada, 'refused');
    assert.deepEqual((await log(ada)).filter((entry) => typeof entry === 'string'), ['pending>held', 'held>uncertain', 'uncertain>lost', 'lost>refused']);
    fine(ada, bob);
  });

  test('a client that is disconnected has lost it; connected again, it asks again', async (t) => {
    const ada = await world.person(t, '42');
    await take(ada, 'private-order.31');
    await ada.evaluate('pusher.disconnect()');
    assert.deepEqual([(await at(ada)).state, (await at(ada)).cause], ['lost', 'disconnected']);
    // A hold of a client that is away waits for it.
    await open(ada, 'private-order.32', {}, 'other');
    assert.equal((await at(ada, 'other')).state, 'pending');
    assert.deepEqual(await ada.evaluate('Promise.race([window.other.release(), new Promise((resolve) => setTimeout(resolve, 1000, "late"))])'), undefined);
    await ada.evaluate('pusher.connect()');
    await becomes(ada, 'held');
    await always('what was released meanwhile is not asked for', async () => !('order:32' in (await world.locks())), { during: 500 });
    fine(ada);
  });
});

test('the broker is killed, and started again: uncertain, then the same lock, resumed from its disk', async (t) => {
  const away = await World.start();
  t.after(() => away.stop());
  const ada = await away.person(t, '42');
  const { fence } = await take(ada, 'private-order.1');
  const bob = await away.person(t, '7');
  await open(bob, 'private-order.1');
  await becomes(bob, 'refused');
  await away.broker.kill();
  await becomes(ada, 'uncertain');
  await away.broker.startAgain();
  // pusher-js waits long when it has met a closed port; the page has a reason to look sooner.
  for (const page of [ada, bob]) await page.evaluate(() => { if (pusher.connection.state !== 'connected') { pusher.connection.retryIn(0); } });
  const resumed = await becomes(ada, 'held', { within: 2 * PATIENCE });
  assert.deepEqual([resumed.fence, resumed.outcome], [fence, 'resumed']);
  // By the broker that is there now, and not still by the one that is gone.
  await eventuallyEqual('he has asked again', async () => (await log(bob)).filter((entry) => entry === 'pending>refused').length, 2, { within: 2 * PATIENCE });
  await ada.evaluate('h.release()');
  await becomes(bob, 'free');
  fine(ada, bob);
});

test('the database does not answer the broker: uncertain for as long, and held again', async (t) => {
  const away = await World.start({ store: { lease: '4s', heartbeat_interval: '1s', acquire_timeout: '500ms' } });
  t.after(() => away.stop());
  const ada = await away.person(t, '42');
  const { fence } = await take(ada, 'private-order.1');
  // Somebody who keeps the database to himself.
  const script = 'import sqlite3,sys; db=sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60); db.execute("BEGIN IMMEDIATE"); print("locked", flush=True); input()';
  const database = spawn('python3', ['-c', script, `${away.broker.directory}/holdline-data/holdline.sqlite`], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => database.kill());
  await new Promise((resolve) => database.stdout.once('data', resolve));
  const { fence: still } = await becomes(ada, 'uncertain', { within: 2 * PATIENCE });
  assert.equal(still, fence);
  // Who asks now is told that nobody can say, and asks again by itself.
  await open(ada, 'private-order.2', { retry: true }, 'other');
  const { error } = await becomes(ada, 'refused', { as: 'other' });
  assert.deepEqual([error.type, error.status], ['LockUnavailable', 503]);
  database.stdin.end('\n');
  await becomes(ada, 'held', { within: 2 * PATIENCE });
  await becomes(ada, 'held', { as: 'other', within: 2 * PATIENCE });
  assert.equal((await at(ada)).fence, fence);
  assert.ok((await log(ada)).includes('uncertain>held'));
  fine(ada);
});
