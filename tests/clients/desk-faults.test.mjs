// The order desk when things break: tabs, connections, plugs, the broker, its database.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Broker } from './support/broker.mjs';
import { DEVELOPMENT, PATIENT, end, fine, launch, noting, open, says, sitDown, take, text, withGrace } from './support/desk.mjs';
import { PATIENCE, eventually, eventuallyEqual } from './support/waiting.mjs';

let broker, browser;

before(async () => {
  broker = await Broker.start(PATIENT);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await broker?.stop();
});

/** Somebody else who writes to the database, and takes their time: nobody else can write meanwhile. */
class Writer {
  constructor(t, database) {
    const script = 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60); c.execute("BEGIN IMMEDIATE"); print(flush=True); sys.stdin.read()';
    this.child = spawn('python3', ['-c', script, database], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.began = once(this.child.stdout, 'data');
    t.after(() => this.child.kill('SIGKILL'));
  }

  async end() {
    this.child.stdin.end();
    await once(this.child, 'exit');
  }
}

test('a reload is the same person, the same lock and the same fence', async (t) => {
  const ada = await sitDown(t, browser, broker, 'ada');
  const fence = await take(ada, 42);
  await ada.click('#reload');
  await eventually('it says so', async () => (await text(ada, 'tags')) === 'user:adaresumed');
  await says(ada, 'fence', String(fence));
  assert.ok(await ada.isChecked('[name="person"][value="ada"]'));
  fine(ada);
});

test('a connection that breaks is back within the grace', async (t) => {
  const ada = await sitDown(t, browser, broker, 'ada');
  const fence = await take(ada, 43);
  // She is back a second later.
  const headlines = await noting(ada, 'headline');
  await ada.click('#reset');
  await eventually('it is broken', async () => (await headlines()).includes('The connection is broken'));
  await says(ada, 'headline', 'You hold order 43');
  await eventually('it says so', async () => (await text(ada, 'tags')) === 'user:adaresumed');
  await says(ada, 'fence', String(fence));
  fine(ada);
});

test('a pulled plug is noticed; then the order is somebody else’s, and a save with the old fence is refused', async (t) => {
  // It is noticed after six seconds instead of 35.
  const own = await Broker.during(t, { ...DEVELOPMENT, server: { ping_interval: '1s', pong_timeout: '5s' } });
  const [ada, grace] = [await sitDown(t, browser, own, 'ada'), await sitDown(t, browser, own, 'grace')];
  const fence = await take(ada, 46);
  await ada.fill('#note', 'two boxes');
  await ada.click('#save');
  await says(ada, 'result', `Saved. From now on order 46 takes nothing that is older than fence ${fence}.`);
  await open(grace, 46);
  await says(grace, 'headline', 'Ada holds order 46');
  await grace.check('#eager-input');

  await ada.click('#unplug');
  await says(ada, 'headline', 'The plug is pulled');
  await says(grace, 'headline', 'You hold order 46');
  const later = Number(await text(grace, 'fence'));
  assert.deepEqual(await end(ada, fence), ['OrderUnlocked', 'order:46', 'user:ada', 'idle', true]);
  await says(ada, 'detail', `Fence ${fence} is over: no sign of life. Try to save with it.`);
  await ada.fill('#note', 'three boxes');
  await ada.click('#save');
  await says(ada, 'result', `Not saved: fence ${fence} is over: Grace holds order 46 under fence ${later}.`);
  await eventuallyEqual('what is written', () => grace.locator('#note').inputValue(), 'two boxes');
  await grace.click('#save');
  await says(grace, 'result', `Saved. From now on order 46 takes nothing that is older than fence ${later}.`);

  await ada.click('#act');
  await says(ada, 'headline', 'Grace holds order 46');
  fine(ada, grace);
});

test('an operator may end a lock: its holder is told, and cannot save any more', async (t) => {
  const [ada, grace] = [await sitDown(t, browser, broker, 'ada'), await sitDown(t, browser, broker, 'grace')];
  const fence = await take(ada, 47);
  await open(grace, 47);
  await says(grace, 'force', `Release fence ${fence} as an operator`);
  await grace.click('#force');
  await says(ada, 'headline', 'You no longer hold order 47');
  assert.deepEqual(await end(grace, fence), ['OrderUnlocked', 'order:47', 'user:ada', 'force_released', false]);
  await says(grace, 'headline', 'Free: open it');
  await ada.click('#save');
  await says(ada, 'result', `Not saved: fence ${fence} is over: nobody holds order 47.`);
  await ada.click('#act');
  await says(ada, 'headline', 'You hold order 47');
  fine(ada, grace);
});

test('after a crash of the broker its log is whole, and so are the locks of those who come back in time', async (t) => {
  // Time enough to come back; and then one does not.
  const own = await Broker.during(t, withGrace('15s'));
  const [ada, grace] = [await sitDown(t, browser, own, 'ada'), await sitDown(t, browser, own, 'grace')];
  const [lost, kept] = [await take(ada, 42), await take(grace, 43)];
  await own.kill();
  await says(grace, 'trouble-says', 'The broker is away. Reconnecting…');
  await says(grace, 'headline', 'The broker is away');
  await ada.close();
  await own.startAgain();
  await eventually('she is back', async () => (await text(grace, 'tags')) === 'user:graceresumed');
  await says(grace, 'fence', String(kept));
  await says(grace, 'kill-command', `kill -9 ${own.pid}`);
  assert.ok(await grace.isHidden('#trouble'));
  assert.deepEqual(await end(grace, lost), ['OrderUnlocked', 'order:42', 'user:ada', 'superseded', true]);
  assert.ok((await take(grace, 42)) > kept);
  const kinds = () => grace.locator('#log > li').evaluateAll((lines) => lines.map((line) => `${line.dataset.kind} ${line.dataset.fence}`).reverse());
  const expected = [`locked ${lost}`, `locked ${kept}`, `unlocked ${lost}`, `unlocked ${kept}`];
  await eventuallyEqual('the log', async () => (await kinds()).slice(0, 4), expected);
  fine(grace);
});

test('while the database does not answer a lock is in doubt, and none is given; then all is well again', async (t) => {
  const own = await Broker.during(t, DEVELOPMENT);
  const [ada, grace] = [await sitDown(t, browser, own, 'ada'), await sitDown(t, browser, own, 'grace')];
  const fence = await take(ada, 42);
  const writer = new Writer(t, join(own.directory, 'holdline-data', 'holdline.sqlite'));
  await writer.began;
  await open(grace, 43);
  await says(grace, 'headline', 'No lock to be had now');
  await says(ada, 'headline', 'You hold order 42, perhaps', { within: 2 * PATIENCE });
  await writer.end();
  await says(ada, 'headline', 'You hold order 42');
  await says(ada, 'fence', String(fence));
  await says(grace, 'headline', 'You hold order 43');
  fine(ada, grace);
});
