// The order desk as people use it.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { Broker } from './support/broker.mjs';
import { DEVELOPMENT, GRACE, PATIENT, end, fine, launch, noting, open, says, sitDown, stateOf, tab, take, text } from './support/desk.mjs';
import { always, eventually, eventuallyEqual } from './support/waiting.mjs';

let broker, brief, browser;

before(async () => {
  broker = await Broker.start(PATIENT);
  brief = await Broker.start(DEVELOPMENT);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await broker?.stop();
  await brief?.stop();
});

suite('two people and one order', () => {
  test('the second one sees who has it, waits, and is told when the first one closes the tab', async (t) => {
    const [ada, grace] = [await sitDown(t, browser, brief, 'ada'), await sitDown(t, browser, brief, 'grace')];
    const fence = await take(ada, 42);
    await open(grace, 42);
    await says(grace, 'headline', 'Ada holds order 42');
    await says(grace, 'detail', 'Waiting — we will tell you when it is free.');
    await says(grace, 'fence', String(fence));
    assert.ok(await grace.isDisabled('#save'), 'who does not hold it cannot save it');
    await says(grace, 'link', 'connected');
    await eventuallyEqual('the list', () => stateOf(grace, 42), 'Ada');

    const details = await noting(grace, 'detail');
    const closed = Date.now();
    await ada.close();
    await eventually('her grace is counted', async () => (await details()).some((detail) => /has \d s to come back/.test(detail)));
    await says(grace, 'headline', 'Free: open it');
    assert.ok(Date.now() - closed >= GRACE - 500, 'not before the grace is over');
    assert.deepEqual(await end(grace, fence), ['OrderUnlocked', 'order:42', 'user:ada', 'client_closed', true]);
    await grace.click('#act');
    await says(grace, 'headline', 'You hold order 42');
    assert.ok(Number(await text(grace, 'fence')) > fence, 'a later lock has a higher fence');
    fine(grace);
  });

  test('closing the order says goodbye, so whoever waits has it at once, if that is what they want', async (t) => {
    const [ada, grace] = [await sitDown(t, browser, broker, 'ada'), await sitDown(t, browser, broker, 'grace')];
    const fence = await take(ada, 41);
    await open(grace, 41);
    await says(grace, 'headline', 'Ada holds order 41');
    await grace.check('#eager-input');
    await ada.click('#close');
    // Sooner than the grace, which is minutes.
    await says(grace, 'headline', 'You hold order 41');
    assert.deepEqual(await end(grace, fence), ['OrderUnlocked', 'order:41', 'user:ada', 'unsubscribed', false]);
    await eventuallyEqual("the other's list", () => stateOf(ada, 41), 'Grace');
    fine(ada, grace);
  });

  test('a second tab of the same person has the order, too, under the same fence, until the last one is closed', async (t) => {
    const ada = await sitDown(t, browser, brief, 'ada');
    const fence = await take(ada, 43);
    const again = await tab(ada.context(), brief, 'ada');
    assert.equal(await take(again, 43), fence);
    await eventually('it says so', async () => (await text(again, 'tags')).includes('one more connection'));
    await ada.close();
    await always('it stays hers', async () => (await text(again, 'headline')) === 'You hold order 43', { during: GRACE + 2_000 });
    await again.click('#close');
    assert.deepEqual(await end(again, fence), ['OrderUnlocked', 'order:43', 'user:ada', 'unsubscribed', false]);
    fine(again);
  });

  test('an order that was refused and left is not asked for again by the next connection', async (t) => {
    const [ada, grace] = [await sitDown(t, browser, broker, 'ada'), await sitDown(t, browser, broker, 'grace')];
    await take(ada, 44);
    await open(grace, 44);
    await says(grace, 'headline', 'Ada holds order 44');
    await take(grace, 45);
    await ada.click('#close');
    await grace.click('#reset');
    await eventually('she is back', async () => (await text(grace, 'tags')).includes('resumed'));
    await always('nobody has it', async () => (await stateOf(grace, 44)) === 'free');
    fine(ada, grace);
  });
});

test('every tab of a browser is somebody else, and stays who it is', async (t) => {
  const first = await sitDown(t, browser, broker);
  const second = await tab(first.context(), broker);
  const person = (page) => page.locator('[name="person"]:checked').inputValue();
  // Each is whom no other is, however soon it comes after them.
  assert.deepEqual([await person(first), await person(second)], ['ada', 'grace']);
  await first.check('[name="person"][value="linus"]');
  await first.reload();
  await eventuallyEqual('the same person', () => person(first), 'linus');
  const [third] = await Promise.all([first.context().waitForEvent('page'), second.click('#second')]);
  await eventuallyEqual('whom the button names', () => person(third), 'ada');
  fine(first, second);
});

test('who holds it is whom the broker knows: nobody but the socket, unless the application says more', async (t) => {
  const ada = await sitDown(t, browser, broker, 'ada');
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

test('an application without rules, and a broker without a store: the desk says so', async (t) => {
  const [lax, bare] = [await Broker.during(t, {}), await Broker.during(t, { apps: [], store: { url: 'none' } })];
  const ada = await sitDown(t, browser, lax, 'ada');
  await open(ada, 42);
  await says(ada, 'headline', 'Order 42 is open, without a lock');
  const grace = await sitDown(t, browser, bare, 'grace');
  await says(grace, 'trouble-says', 'This broker keeps no locks and no log: its store.url is "none".');
  await open(grace, 42);
  await says(grace, 'headline', 'Order 42 is open, without a lock');
  fine(ada, grace);
});

test('the desk can be worked with the keyboard alone, on a phone, and in the dark', async (t) => {
  const page = await sitDown(t, browser, brief, 'linus', { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
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
