// What README and src/docs/guides say in JavaScript, PHP, Python and HTML, run as it stands there, in Chromium, Node and PHP, against the
// real binary. The other languages: tests/guides.rs.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { AuthServer } from './support/auth-server.mjs';
import { APP, Broker } from './support/broker.mjs';
import { at, blocks, built, dotenv, file, named, snippet, unused } from './support/guides.mjs';
import { LIBRARIES, launch, open, run, shell } from './support/guides-browser.mjs';
import { php, serve } from './support/guides-laravel.mjs';
import { freePort } from './support/ports.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { jsonOf, serverSdk } from './support/server-sdk.mjs';
import { PATIENCE, eventually, eventuallyEqual } from './support/waiting.mjs';

const ORDER_LOCKS = 'src/docs/guides/order-locks.md';
const FIRST_HOUR = 'src/docs/guides/first-hour.md';
// Of no application is one for development, with its rule for private-order.{order_id}.
let broker, sdk, auth, browser, place;

before(async () => {
  broker = await Broker.start({ apps: [] });
  sdk = serverSdk(broker, APP);
  auth = await AuthServer.start(sdk);
  for (const [path, text] of Object.entries({ ...LIBRARIES, '/page.html': shell() })) auth.pages.set(path, text);
  browser = await launch();
  place = mkdtempSync(join(tmpdir(), 'holdline-guides-'));
});

after(async () => {
  await browser?.close();
  await auth?.stop();
  await broker?.stop();
  rmSync(place, { recursive: true, force: true });
});

const page = (t, user) => open(t, browser, `${auth.url}/page.html`, { user });
const fine = (...all) => assert.deepEqual(all.map(({ wrong }) => wrong), all.map(() => []));
/** Publishes until the page has taken it: its subscription may still be under way. */
const until = (what, publish, seen) => eventually(what, async () => {
  await publish();
  return seen();
}, { every: 100 });

suite('README', () => {
  const echo = () => snippet('readme-echo', { 6001: broker.port });

  test('Echo in a page', async (t) => {
    const ada = await page(t, '42');
    await run(ada, echo());
    await ada.evaluate(() => { window.seen = []; window.Echo.channel('orders').listen('.OrderShipped', (data) => window.seen.push(data)); });
    await until('it is heard', () => sdk.trigger('orders', 'OrderShipped', { id: 42 }), () => ada.evaluate(() => window.seen[0]?.id === 42));
    fine(ada);
  });

  test('the page of an order: mine, somebody else\'s, free, taken over', async (t) => {
    const block = snippet('readme-page');
    const somebody = async (user) => {
      const one = await page(t, user);
      await one.evaluate(() => {
        window.calls = [];
        for (const name of ['edit', 'watch', 'offer']) window[name] = (value) => window.calls.push([name, typeof value]);
        window.stop = (value) => window.calls.push(['stop', value]);
      });
      await run(one, echo(), block);
      return one;
    };
    const calls = (one) => one.evaluate(() => window.calls);
    const ada = await somebody('42');
    await eventuallyEqual('Ada edits', () => calls(ada), [['edit', 'number']]);
    const linus = await somebody('7');
    await eventuallyEqual('Linus watches', () => calls(linus), [['watch', 'string']]);
    const { locks: [{ fence }] } = await jsonOf(sdk.get({ path: '/locks' }));
    await sdk.post({ path: `/locks/${fence}/release`, body: {} });
    await eventuallyEqual('Ada has lost it', () => calls(ada), [['edit', 'number'], ['stop', 'Somebody took it over']]);
    await eventuallyEqual('Linus may have it', () => calls(linus), [['watch', 'string'], ['offer', 'string']]);
    fine(ada, linus);
  });

  test('the same with the helper', async (t) => {
    const ada = await page(t, '42');
    await run(ada, echo(), { place: 'an import', text: "import { hold } from '@holdline/client'; window.hold = hold;" });
    const block = snippet('readme-client');
    await run(ada, { ...block, text: `${block.text}window.order = order;` });
    await eventuallyEqual('it is held', () => ada.evaluate(() => [window.order.state, typeof window.order.fence]), ['held', 'number']);
    await ada.evaluate(() => window.order.release());
    assert.equal(await ada.evaluate(() => window.order.state), 'released');
    fine(ada);
  });

  test('publishing from Node', async (t) => {
    const raw = await RawSocket.established(t, broker);
    await raw.subscribe('orders');
    const block = snippet('readme-node', { 6001: broker.port });
    const Async = (async () => {}).constructor;
    await at(block, () => new Async('require', block.text)(createRequire(import.meta.url)));
    assert.equal((await raw.frame('OrderShipped')).data, '{"id":42}');
  });
});

suite('the first hour', () => {
  test('a page that is a file', async (t) => {
    const path = join(place, 'page.html');
    writeFileSync(path, snippet('first-hour-page', { 6001: broker.port }).text);
    const ada = await open(t, browser, `file://${path}`);
    await eventuallyEqual('it is connected', () => ada.locator('#state').textContent(), 'connected');
    const lines = () => ada.locator('#orders li').allTextContents();
    await until('it is in the list', () => sdk.trigger('orders', 'OrderShipped', { id: 43 }), async () => (await lines())[0] === 'order 43 is shipped');
    fine(ada);
  });

  test('an application of Laravel\'s: its .env, its Echo, its event, its route', async (t) => {
    const variables = dotenv(file(FIRST_HOUR, '.env', { 6001: broker.port }));
    const ada = await page(t, '42');
    await run(ada, built(snippet('first-hour-echo'), variables));
    const [event, route] = [snippet('first-hour-event'), snippet('first-hour-route')];
    const [dispatched] = await at(route, () => php(place, { files: [event], routes: route, request: ['GET', '/ship/42'] }));
    assert.deepEqual(dispatched, { event: 'App\\Events\\OrderShipped', channel: 'orders', data: { id: 42 }, now: true });
    const broadcast = () => sdk.trigger(dispatched.channel, dispatched.event, dispatched.data);
    await until('the console says so', broadcast, () => ada.said.includes('order 42 is shipped'));
    fine(ada);
  });
});

test('order locks: two people, their application, a laptop that goes away, and a save with an old fence', async (t) => {
  const port = await freePort();
  const shop = await Broker.during(t, file(ORDER_LOCKS, 'holdline.toml', { 8000: port }).text);
  const names = ['order-locks-migration', 'order-locks-channels', 'order-locks-user', 'order-locks-listener', 'order-locks-save'];
  const application = await serve(t, place, {
    files: names.map((name) => snippet(name)),
    port,
    env: { PUSHER_APP_KEY: 'shop-key', PUSHER_APP_SECRET: 'a long random text' },
    pages: { ...LIBRARIES, 'page.html': shell(snippet('order-locks-html').text) },
  });
  const echo = built(snippet('first-hour-echo'), { ...dotenv(file(FIRST_HOUR, '.env', { 6001: shop.port })), VITE_PUSHER_APP_KEY: 'shop-key' });
  const script = snippet('order-locks-page');
  const somebody = async (user) => {
    const one = await open(t, browser, `${application.url}/page.html`, { user });
    await run(one, echo, script);
    return one;
  };
  const says = (one, text) => eventuallyEqual('the banner', () => one.locator('#banner').textContent(), text, { within: 2 * PATIENCE });
  const save = async (one, note) => {
    await one.fill('textarea', note);
    await one.click('button');
  };
  const ada = await somebody('ada');
  await says(ada, 'You are editing this order.');
  // The listener may be a moment behind the page.
  await eventually('she saves', async () => {
    await save(ada, 'by Ada');
    await eventually('an answer', async () => (await ada.locator('#banner').textContent()) !== 'You are editing this order.');
    return (await ada.locator('#banner').textContent()) === 'Saved.';
  });
  const fence = Number(await ada.inputValue('[name=fence]'));
  const linus = await somebody('linus');
  await says(linus, 'user:ada is editing this order.');
  assert.equal(await linus.locator('textarea').isDisabled(), true);
  const mallory = await somebody('mallory');
  await says(mallory, '');

  await ada.context().setOffline(true);
  await ada.context().close();
  await says(linus, 'You are editing this order.');
  assert.ok(Number(await linus.inputValue('[name=fence]')) > fence);
  const late = await fetch(`${application.url}/orders/42`, { method: 'POST', body: new URLSearchParams({ note: 'late', fence }) });
  assert.deepEqual([late.status, await late.text()], [409, 'This order is locked by somebody else now.']);
  await eventually('Linus saves', async () => {
    await save(linus, 'by Linus');
    await eventually('an answer', async () => (await linus.locator('#banner').textContent()) !== 'You are editing this order.');
    return (await linus.locator('#banner').textContent()) === 'Saved.';
  });
  const forged = await fetch(`${application.url}/holdline`, { method: 'POST', body: '{"type":"OrderUnlocked","resource":"order:42","fence":2}' });
  assert.equal(forged.status, 401);
  fine(linus, mallory);
  assert.doesNotMatch(application.log, /PHP (Warning|Fatal|Deprecated|Notice)/);
});

suite('the runner', () => {
  test('a block without a test, a name that is used twice, a name that nobody has', () => {
    const page = (text) => blocks('page.md', text);
    assert.throws(() => named(page('\n```php\n<?php\n```\n')), /page\.md:2: a block of php that no test names/);
    const twice = '<!-- test: a -->\n```js\n1;\n```\n';
    assert.throws(() => named(page(twice + twice)), /page\.md:6: a is already page\.md:2/);
    assert.throws(() => snippet('no-such-block'), /no guide has a block called no-such-block/);
    assert.throws(() => snippet('readme-node', { 'no such text': '' }), /README\.md:\d+: there is no no such text in it/);
  });

  test('what goes wrong in a page or in PHP is said with its place', async (t) => {
    const one = await page(t, '42');
    await assert.rejects(run(one, { place: 'page.md:7', text: 'noSuchFunction();' }), /page\.md:7: it did not run to its end: .*noSuchFunction/);
    const bad = { place: 'page.md:9', text: '<?php\nno_such_function();\n' };
    await assert.rejects(at(bad, () => php(place, { files: [], routes: bad, request: ['GET', '/'] })), /page\.md:9: .*no_such_function/s);
  });

  test('every block that is named was used', () => assert.deepEqual(unused(), []));
});
