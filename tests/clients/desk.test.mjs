// The order desk as people use it: tabs of headless Chromium at the page that the real binary serves, on SQLite.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { chromium } from 'playwright-core';
import { Broker } from './support/broker.mjs';
import { always, eventually, eventuallyEqual } from './support/waiting.mjs';

// Playwright adds an empty --user-data-dir of its own.
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
/** No applications: the one for development, with its own rule. A pulled plug is noticed after two seconds instead of 35. */
const DEVELOPMENT = { apps: [], server: { ping_interval: '1s', pong_timeout: '1s' } };
/** The grace of the development application's rule. */
const GRACE = 5_000;

let broker, browser;

before(async () => {
  broker = await Broker.start(DEVELOPMENT);
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });
});

after(async () => {
  await browser?.close();
  await broker.stop();
});

const deskOf = (broker) => broker.messages().map((text) => /^Order desk: (\S+)$/.exec(text)?.[1]).find(Boolean);

/** Somebody's own browser at the desk. What goes wrong in the page, and what it asks of others than the broker, is noted. */
async function sitDown(t, who, at = broker) {
  const context = await browser.newContext();
  t.after(() => context.close());
  return tab(context, `${deskOf(at)}?as=${who}`);
}

async function tab(context, address) {
  const page = await context.newPage();
  page.wrong = [];
  page.on('pageerror', (error) => page.wrong.push(error.message));
  page.on('console', (message) => /Content Security Policy|Refused to/.test(message.text()) && page.wrong.push(message.text()));
  page.on('request', (request) => new URL(request.url()).hostname === '127.0.0.1' || page.wrong.push(`asked ${request.url()}`));
  await page.goto(address);
  await page.locator('[data-order]').first().waitFor();
  return page;
}

const fine = (...pages) => assert.deepEqual(pages.map(({ wrong }) => wrong), pages.map(() => []));
const text = (page, id) => page.locator(`#${id}`).textContent();
const says = (page, id, expected, within = 10_000) => eventuallyEqual(`#${id}`, () => text(page, id), expected, { within });
const open = (page, order) => page.click(`[data-order="${order}"]`);

/** Opens an order that must be had, and answers the fence. */
async function take(page, order) {
  await open(page, order);
  await says(page, 'headline', `You hold order ${order}`);
  return Number(await text(page, 'fence'));
}

/** How a lock ended, in the page's log: type, principal, cause, and whether the grace was waited for. */
async function end(page, fence, within = 10_000) {
  const line = page.locator(`#log [data-kind="unlocked"][data-fence="${fence}"] pre`);
  const entry = await eventually(`the end of fence ${fence} in the log`, async () => (await line.count()) === 1 && JSON.parse(await line.textContent()), { within });
  return [entry.type, entry.resource, entry.principal, entry.cause, entry.after_grace];
}

/** Somebody else who writes to the database, and takes their time: nobody else can write meanwhile. */
class Writer {
  constructor(t, database) {
    const script = 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute("BEGIN IMMEDIATE"); print(flush=True); sys.stdin.read()';
    this.child = spawn('python3', ['-c', script, database], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.began = once(this.child.stdout, 'data');
    t.after(() => this.child.kill('SIGKILL'));
  }

  async end() {
    this.child.stdin.end();
    await once(this.child, 'exit');
  }
}

suite('two people and one order', () => {
  test('the second one sees who has it, waits, and is told when the first one closes the tab', async (t) => {
    const [ada, grace] = [await sitDown(t, 'ada'), await sitDown(t, 'grace')];
    const fence = await take(ada, 42);
    await open(grace, 42);
    await says(grace, 'headline', 'Ada holds order 42');
    await says(grace, 'detail', 'Waiting — we will tell you when it is free.');
    await says(grace, 'fence', String(fence));
    assert.ok(await grace.isDisabled('#save'), 'who does not hold it cannot save it');
    await says(grace, 'link', 'connected');
    await eventuallyEqual('the list', () => grace.locator('[data-order="42"] .state').textContent(), 'Ada');

    const closed = Date.now();
    await ada.close();
    await eventually('her grace is counted', async () => /has \d s to come back/.test(await text(grace, 'detail')));
    await says(grace, 'headline', 'Free: open it');
    assert.ok(Date.now() - closed >= GRACE - 500, 'not before the grace is over');
    assert.deepEqual(await end(grace, fence), ['OrderUnlocked', 'order:42', 'user:ada', 'client_closed', true]);
    await grace.click('#act');
    await says(grace, 'headline', 'You hold order 42');
    assert.ok(Number(await text(grace, 'fence')) > fence, 'a later lock has a higher fence');
    fine(grace);
  });

  test('closing the order says goodbye, so whoever waits has it at once, if that is what they want', async (t) => {
    const [ada, grace] = [await sitDown(t, 'ada'), await sitDown(t, 'grace')];
    const fence = await take(ada, 41);
    await open(grace, 41);
    await says(grace, 'headline', 'Ada holds order 41');
    await grace.check('#eager-input');
    await ada.click('#close');
    await says(grace, 'headline', 'You hold order 41', GRACE - 1_000);
    assert.deepEqual(await end(grace, fence), ['OrderUnlocked', 'order:41', 'user:ada', 'unsubscribed', false]);
    await eventuallyEqual("the other's list", () => ada.locator('[data-order="41"] .state').textContent(), 'Grace');
    fine(ada, grace);
  });

  test('a second tab of the same person has the order, too, under the same fence, until the last one is closed', async (t) => {
    const ada = await sitDown(t, 'ada');
    const fence = await take(ada, 43);
    const again = await tab(ada.context(), `${deskOf(broker)}?as=ada`);
    assert.equal(await take(again, 43), fence);
    await eventually('it says so', async () => (await text(again, 'tags')).includes('one more connection'));
    await ada.close();
    await always('it stays hers', async () => (await text(again, 'headline')) === 'You hold order 43', { during: GRACE + 2_000 });
    await again.click('#close');
    assert.deepEqual(await end(again, fence), ['OrderUnlocked', 'order:43', 'user:ada', 'unsubscribed', false]);
    fine(again);
  });

  test('an order that was refused and left is not asked for again by the next connection', async (t) => {
    const [ada, grace] = [await sitDown(t, 'ada'), await sitDown(t, 'grace')];
    await take(ada, 44);
    await open(grace, 44);
    await says(grace, 'headline', 'Ada holds order 44');
    await take(grace, 45);
    await ada.click('#close');
    await grace.click('#reset');
    await eventually('she is back', async () => (await text(grace, 'tags')).includes('resumed'));
    await always('nobody has it', async () => (await grace.locator('[data-order="44"] .state').textContent()) === 'free');
    fine(ada, grace);
  });
});

suite('going away and coming back', () => {
  test('a reload is the same person, the same lock and the same fence', async (t) => {
    const ada = await sitDown(t, 'ada');
    const fence = await take(ada, 42);
    await ada.click('#reload');
    await eventually('it says so', async () => (await text(ada, 'tags')) === 'user:adaresumed');
    await says(ada, 'fence', String(fence));
    assert.ok(await ada.isChecked('[name="person"][value="ada"]'));
    fine(ada);
  });

  test('a connection that breaks is back within the grace', async (t) => {
    const ada = await sitDown(t, 'ada');
    const fence = await take(ada, 43);
    await ada.click('#reset');
    await says(ada, 'headline', 'The connection is broken');
    await says(ada, 'headline', 'You hold order 43');
    await eventually('it says so', async () => (await text(ada, 'tags')) === 'user:adaresumed');
    await says(ada, 'fence', String(fence));
    fine(ada);
  });

  test('a pulled plug is noticed; then the order is somebody else’s, and a save with the old fence is refused', async (t) => {
    const [ada, grace] = [await sitDown(t, 'ada'), await sitDown(t, 'grace')];
    const fence = await take(ada, 46);
    await ada.fill('#note', 'two boxes');
    await ada.click('#save');
    await says(ada, 'result', `Saved. From now on order 46 takes nothing that is older than fence ${fence}.`);
    await open(grace, 46);
    await says(grace, 'headline', 'Ada holds order 46');
    await grace.check('#eager-input');

    await ada.click('#unplug');
    await says(ada, 'headline', 'The plug is pulled');
    await says(grace, 'headline', 'You hold order 46', 2_000 + GRACE + 5_000);
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
    const [ada, grace] = [await sitDown(t, 'ada'), await sitDown(t, 'grace')];
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
});

test('who holds it is whom the broker knows: nobody but the socket, unless the application says more', async (t) => {
  const ada = await sitDown(t, 'ada');
  const holder = () => ada.locator('#tags code').first().textContent();
  const first = await take(ada, 48);
  assert.equal(await holder(), 'user:ada');

  await ada.check('[name="identity"][value="plain"]');
  await eventually('the socket holds it', async () => /^socket:\d+\.\d+$/.test(await holder()));
  assert.match(await text(ada, 'identity-says'), /names nobody, so the holder is the socket itself/);
  assert.deepEqual(await end(ada, first), ['OrderUnlocked', 'order:48', 'user:ada', 'unsubscribed', false]);
  const [socket, second] = [await holder(), Number(await text(ada, 'fence'))];
  await ada.reload();
  await eventually('another socket holds it', async () => /^socket:/.test(await holder()) && (await holder()) !== socket);
  assert.deepEqual(await end(ada, second), ['OrderUnlocked', 'order:48', socket, 'client_closed', false]);

  await ada.check('[name="identity"][value="channel"]');
  await eventuallyEqual('the signed name holds it', holder, 'user:ada');
  await says(ada, 'headline', 'You hold order 48');
  fine(ada);
});

test('after a crash of the broker its log is whole, and so are the locks of those who come back in time', async (t) => {
  const own = await Broker.during(t, DEVELOPMENT);
  const [ada, grace] = [await sitDown(t, 'ada', own), await sitDown(t, 'grace', own)];
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
  const kinds = await grace.locator('#log > li').evaluateAll((lines) => lines.map((line) => `${line.dataset.kind} ${line.dataset.fence}`).reverse());
  assert.deepEqual(kinds.slice(0, 4), [`locked ${lost}`, `locked ${kept}`, `unlocked ${lost}`, `unlocked ${kept}`]);
  fine(grace);
});

test('while the database does not answer a lock is in doubt, and none is given; then all is well again', async (t) => {
  const own = await Broker.during(t, DEVELOPMENT);
  const [ada, grace] = [await sitDown(t, 'ada', own), await sitDown(t, 'grace', own)];
  const fence = await take(ada, 42);
  const writer = new Writer(t, join(own.directory, 'holdline-data', 'holdline.sqlite'));
  await writer.began;
  await open(grace, 43);
  await says(grace, 'headline', 'No lock to be had now');
  await says(ada, 'headline', 'You hold order 42, perhaps', 20_000);
  await writer.end();
  await says(ada, 'headline', 'You hold order 42');
  await says(ada, 'fence', String(fence));
  await says(grace, 'headline', 'You hold order 43');
  fine(ada, grace);
});

test('an application without rules, and a broker without a store: the desk says so', async (t) => {
  const [lax, bare] = [await Broker.during(t, {}), await Broker.during(t, { apps: [], store: { url: 'none' } })];
  const ada = await sitDown(t, 'ada', lax);
  await open(ada, 42);
  await says(ada, 'headline', 'Order 42 is open, without a lock');
  const grace = await sitDown(t, 'grace', bare);
  await says(grace, 'trouble-says', 'This broker keeps no locks: it was started without a store.');
  fine(ada, grace);
});

test('the desk can be worked with the keyboard alone, on a phone, and in the dark', async (t) => {
  const context = await browser.newContext({ viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
  t.after(() => context.close());
  const page = await tab(context, `${deskOf(broker)}?as=linus`);
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate('document.activeElement.className'), 'skip');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate('document.activeElement.value'), 'linus');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate('document.activeElement.dataset.order'), '41');
  await page.keyboard.press('Enter');
  await says(page, 'headline', 'You hold order 41');
  const sideways = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
  assert.equal(sideways, 0, 'nothing hangs over the edge');
  const [background] = (await page.evaluate('getComputedStyle(document.body).backgroundColor')).match(/\d+/);
  assert.ok(Number(background) < 60, 'it is dark');
  fine(page);
});
