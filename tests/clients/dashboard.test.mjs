// The dashboard as people use it: every view with real connections, and what its buttons do.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, suite, test } from 'node:test';
import { APP, Broker, app } from './support/broker.mjs';
import { HOLDING, TOKEN, api, appears, crowd, fine, launch, look, row, rows, sideways, signIn, text } from './support/dashboard.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { serverSdk } from './support/server-sdk.mjs';
import { PATIENCE, always, eventually, eventuallyEqual } from './support/waiting.mjs';

let broker, browser, sdk, refusing;

before(async () => {
  refusing = createServer((request, response) => request.resume().on('end', () => response.writeHead(500).end()));
  await new Promise((done) => refusing.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${refusing.address().port}/`;
  broker = await Broker.start({
    dashboard: { token: TOKEN },
    apps: [{ ...HOLDING, webhooks: [{ name: 'crm', url, events: ['client_event'], retry_for: '1s' }] }, app('other')],
    listeners: [{ name: 'erp', kind: 'http', app: APP.id, url }],
  });
  sdk = serverSdk(broker);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await broker?.stop();
  refusing.close();
});

/** A view, already signed in. */
async function view(t, name, options) {
  const page = await look(t, browser, broker, name, options);
  await signIn(page);
  await page.locator(`[data-view="${name.split('?')[0]}"][aria-current]`).waitFor();
  return page;
}

/** Somebody who holds an order. */
async function holder(t, order, user) {
  const raw = await RawSocket.established(t, broker);
  await raw.authorised(sdk, `private-order.${order}`, { user_id: user });
  const { data } = await raw.frame('holdline:locked');
  return { raw, fence: JSON.parse(data).fence };
}

suite('who may look', () => {
  test('whoever has the token, for as long as the tab is there', async (t) => {
    const page = await look(t, browser, broker, 'locks');
    await page.locator('#login').waitFor();
    await signIn(page, 'not-the-right-token');
    await eventuallyEqual('it says so', () => text(page, '#login [role="alert"]'), 'This is not the dashboard.token');
    assert.equal(await page.locator('nav').count(), 0, 'nothing is shown');
    await signIn(page);
    await page.locator('nav').waitFor();
    await eventuallyEqual('the view that was asked for', () => text(page, 'h1'), 'Locks');
    await page.reload();
    await page.locator('nav').waitFor();
    await page.click('[aria-label="Sign out"]');
    await page.locator('#login').waitFor();
    await page.reload();
    await page.locator('#login').waitFor();
    fine(page);
  });

  test('in development nobody is asked for one', async (t) => {
    const home = await Broker.during(t, { apps: [] });
    const page = await look(t, browser, home);
    await eventuallyEqual('the overview', () => text(page, 'h1'), 'Overview');
    await eventuallyEqual('the application', () => text(page, '.only-app'), 'app-id');
    assert.equal(await page.locator('[aria-label="Sign out"]').count(), 0);
    fine(page);
  });
});

suite('what is there', () => {
  test('the overview counts, and its lines move with the traffic', async (t) => {
    const raw = await RawSocket.established(t, broker);
    await raw.subscribe('busy');
    const page = await view(t, 'overview');
    const value = (name) => page.locator('.tile', { hasText: name }).locator('strong').textContent();
    await eventually('connections', async () => Number(await value('Connections')) >= 1);
    const traffic = setInterval(() => sdk.trigger('busy', 'e', {}).catch(() => {}), 100);
    t.after(() => clearInterval(traffic));
    await eventually('publishes per second', async () => Number(await value('Publishes')) > 1);
    await eventually('a line', async () => (await page.locator('.chart .line').count()) >= 3);
    assert.match(await text(page, '.facts'), /sqlite/);
    fine(page);
  });

  test('a connection is found, looked at and closed', async (t) => {
    const [ada, bob] = [await RawSocket.established(t, broker), await RawSocket.established(t, broker)];
    const { auth, user_data } = sdk.authenticateUser(ada.id, { id: 'user-ada' });
    ada.send({ event: 'pusher:signin', data: { auth, user_data } });
    await ada.frame('pusher:signin_success');
    await ada.subscribe('adas-channel');
    const page = await view(t, 'connections');
    await appears('bob', row(page, bob.id));
    await page.keyboard.press('/');
    await page.keyboard.type('USER-ADA');
    await eventuallyEqual('only she is there', () => rows(page).count(), 1);
    assert.match(await rows(page).first().textContent(), /user-ada.*127\.0\.0\.1.*adas-channel/);
    await rows(page).first().click();
    await appears('her sheet', page.locator('dialog.drawer', { hasText: ada.id }));
    await page.click('[data-close]');
    await page.click('[data-confirm]');
    await eventually('she is told', () => ada.closed?.code === 4009);
    await eventuallyEqual('she is gone', () => rows(page).count(), 0);
    assert.equal(bob.closed, null);
    fine(page);
  });

  test('channels show who is there and how much goes over them', async (t) => {
    const raw = await RawSocket.established(t, broker);
    await raw.authorised(sdk, 'presence-team', { user_id: 'grace', user_info: { name: '<img src=x onerror=alert(1)>' } });
    await raw.subscribe('cache-prices');
    await sdk.trigger('cache-prices', 'changed', { cents: 1299 });
    const page = await view(t, 'channels?q=presence-team');
    const traffic = setInterval(() => sdk.trigger('presence-team', 'e', {}).catch(() => {}), 50);
    t.after(() => clearInterval(traffic));
    const line = row(page, 'presence-team');
    await eventually('messages per second', async () => Number(/([\d.]+)\/s/.exec(await line.textContent())?.[1]) > 1);
    await line.click();
    await appears('a member, as text', page.locator('.lines', { hasText: '<img src=x onerror=alert(1)>' }));
    assert.equal(await page.locator('img[src="x"]').count(), 0);
    await page.keyboard.press('Escape');
    await page.fill('[data-search]', 'prices');
    await row(page, 'cache-prices').click();
    await appears('what it keeps', page.locator('pre', { hasText: '"cents": 1299' }));
    fine(page);
  });

  test('nodes, listeners that lag, and the application switch', async (t) => {
    await holder(t, 900, 'lag');
    const page = await view(t, 'delivery');
    await appears('the listener fails', page.locator('[data-list="listeners"] .card', { hasText: 'erp' }).filter({ hasText: /failing|put aside/ }));
    await page.keyboard.press('7');
    await appears('this node', page.locator('[data-list="nodes"] .card', { hasText: 'this node' }).filter({ hasText: 'alive' }));
    await page.keyboard.press('2');
    await eventually('somebody', async () => (await rows(page).count()) > 0);
    await page.selectOption('#application', 'other-id');
    await appears('nobody there', page.locator('.empty', { hasText: 'Nobody is connected' }));
    await page.selectOption('#application', APP.id);
    await eventually('somebody again', async () => (await rows(page).count()) > 0);
    fine(page);
  });
});

suite('locks and the log', () => {
  test('the release button really unlocks, after it has asked', async (t) => {
    const { raw, fence } = await holder(t, 42, 'ada');
    const page = await view(t, 'locks');
    const line = row(page, 'order:42');
    await appears('it is held', line.filter({ hasText: 'user:ada' }));
    await page.click(`[data-release="${fence}"]`);
    assert.match(await text(page, 'dialog.confirm'), /Release order:42\?.*user:ada loses it now/);
    await page.keyboard.press('Escape');
    await always('nothing happens yet', async () => (await line.count()) === 1, { during: 500 });
    await page.click(`[data-release="${fence}"]`);
    await page.click('[data-confirm]');
    const lost = await raw.frame('holdline:lock_lost');
    assert.equal(JSON.parse(lost.data).cause, 'force_released');
    await eventuallyEqual('it is gone', () => line.count(), 0);
    assert.deepEqual((await api(broker, `locks?app=${APP.id}&q=order:42`)).rows, []);
    fine(page);
  });

  test('the log grows by itself, is filtered, and waits while it is paused', async (t) => {
    const page = await view(t, 'log');
    await holder(t, 71, 'linus');
    await appears('the lock', row(page, 'order:71').filter({ hasText: 'OrderLocked' }));
    await page.keyboard.press('p');
    await eventuallyEqual('it is paused', () => page.getAttribute('[data-pause]', 'aria-pressed'), 'true');
    const { raw } = await holder(t, 72, 'grace');
    await eventually('it is counted', async () => /1 new/.test(await text(page, '.total')));
    assert.equal(await row(page, 'order:72').count(), 0);
    await page.keyboard.press('p');
    await appears('it is shown', row(page, 'order:72'));
    raw.send({ event: 'pusher:unsubscribe', data: { channel: 'private-order.72' } });
    await page.fill('[data-search]', 'unsubscribed');
    await appears('the end', row(page, 'order:72').filter({ hasText: 'OrderUnlocked' }));
    // It comes by itself, and the filter a moment after the last letter.
    await eventuallyEqual('it is filtered', () => row(page, 'order:71').count(), 0);
    await appears('it stays', row(page, 'order:72').filter({ hasText: 'OrderUnlocked' }));
    await rows(page).first().press('Enter');
    await appears('all of the entry', page.locator('dialog.drawer', { hasText: 'Context' }));
    fine(page);
  });
});

test('a dead letter is sent again or dropped', async (t) => {
  const raw = await RawSocket.established(t, broker);
  await raw.authorised(sdk, 'private-chat');
  for (const name of ['client-one', 'client-two']) raw.send({ event: name, channel: 'private-chat', data: {} });
  const page = await view(t, 'delivery');
  await eventually('both are given up', async () => (await page.locator('[data-drop]').count()) === 2, { within: 2 * PATIENCE });
  await eventuallyEqual('the menu says so', () => text(page, '[data-view="delivery"] .count'), '2');
  await page.locator('[data-drop]').first().click();
  await page.click('[data-confirm]');
  await eventuallyEqual('one is left', () => page.locator('[data-drop]').count(), 1);
  // It is said for a few seconds only.
  await page.evaluate(() => {
    window.toasts = [];
    new MutationObserver((records) => records.forEach(({ addedNodes }) => addedNodes.forEach((node) => window.toasts.push(node.textContent))))
      .observe(document.body, { childList: true, subtree: true });
  });
  await page.locator('[data-replay]').first().click();
  await eventually('it is said', async () => (await page.evaluate('toasts')).some((said) => said.includes('Sending again')));
  fine(page);
});

suite('the console', () => {
  test('an event is sent, and the listener hears it and whatever else comes', async (t) => {
    const raw = await RawSocket.established(t, broker);
    await raw.subscribe('orders');
    const page = await view(t, 'console');
    for (const channel of ['orders', 'private-news', 'presence-room']) {
      await page.fill('[name="listen"]', channel);
      await page.press('[name="listen"]', 'Enter');
      await page.locator(`[data-channel="${channel}"][data-how="on"]`).waitFor();
    }
    await page.fill('[name="channel"]', 'orders');
    await page.fill('[name="event"]', 'OrderShipped');
    await page.fill('[name="data"]', '{"id": 42,}');
    await page.click('.send [type="submit"]');
    assert.equal(await page.getAttribute('[name="data"]', 'aria-invalid'), 'true', 'no JSON, nothing is sent');
    await page.fill('[name="data"]', '{"id": 42, "html": "<b>x</b>"}');
    await page.click('.send [type="submit"]');
    const frame = await raw.frame('OrderShipped');
    assert.deepEqual(JSON.parse(frame.data), { id: 42, html: '<b>x</b>' });
    await appears('it is heard', page.locator('.entry', { hasText: 'OrderShipped' }).filter({ hasText: '<b>x</b>' }));
    await sdk.trigger('private-news', 'flash', { text: 'hello' });
    await appears('a private one', page.locator('.entry', { hasText: 'flash' }));
    await raw.authorised(sdk, 'presence-room', { user_id: 'guest' });
    await appears('who comes', page.locator('.entry', { hasText: 'member_added' }).filter({ hasText: 'guest' }));
    assert.equal(await page.locator('.stream b').count(), 0, 'it is text');
    await page.fill('[name="channel"]', 'bad channel');
    await page.click('.send [type="submit"]');
    await eventually('why not', async () => /channels is no channel name/.test(await text(page, '.send [role="alert"]')));
    fine(page);
  });

  test('listening takes no lock without asking, and whoever means it holds it', async (t) => {
    const page = await view(t, 'console');
    const ask = async () => {
      await page.fill('[name="listen"]', 'private-order.555');
      await page.press('[name="listen"]', 'Enter');
      await appears('it asks', page.locator('dialog.confirm', { hasText: 'takes a lock' }));
    };
    await ask();
    await page.keyboard.press('Escape');
    await eventuallyEqual('forgotten', () => page.locator('[data-channel]').count(), 0);
    assert.deepEqual((await api(broker, `locks?app=${APP.id}&q=order:555`)).rows, []);
    await ask();
    await page.click('[data-confirm]');
    await appears('it is told', page.locator('.entry', { hasText: 'holdline:locked' }));
    await page.click('[data-channel] button');
    await eventually('let go', async () => (await api(broker, `locks?app=${APP.id}&q=order:555`)).rows.length === 0);
    fine(page);
  });
});

test('it says that the broker is away, and comes back by itself', async (t) => {
  const mortal = await Broker.during(t, { apps: [] });
  const page = await look(t, browser, mortal, 'console?listen=news');
  await page.locator('[data-channel="news"][data-how="on"]').waitFor();
  await mortal.kill();
  await appears('it says so', page.locator('.banner', { hasText: 'The broker does not answer' }));
  await page.locator('[data-channel="news"]:not([data-how="on"])').waitFor();
  await mortal.startAgain();
  await eventually('it is back', async () => !(await page.locator('.banner').isVisible()), { within: 2 * PATIENCE });
  await page.locator('[data-channel="news"][data-how="on"]').waitFor();
  await serverSdk(mortal).trigger('news', 'again', {});
  await appears('it hears again', page.locator('.entry', { hasText: 'again' }));
  fine(page);
});

test('nothing is asked while nobody looks', async (t) => {
  const page = await view(t, 'connections');
  await eventually('rows', async () => (await text(page, '.total')) !== '');
  await page.evaluate(() => {
    window.asked = 0;
    const { fetch } = window;
    window.fetch = (...about) => {
      window.asked += 1;
      return fetch(...about);
    };
  });
  /** Answers how much was asked in that moment. */
  const hide = (hidden) => page.evaluate((is) => {
    window.asked = 0;
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => is });
    document.dispatchEvent(new Event('visibilitychange'));
    return window.asked;
  }, hidden);
  const asked = () => page.evaluate('asked');
  await eventually('it asks', async () => (await asked()) > 0);
  assert.equal(await hide(true), 0);
  await always('it is quiet', async () => (await asked()) === 0, { during: 4_000 });
  assert.ok((await hide(false)) > 0, 'it asks at once');
  fine(page);
});

test('ten thousand connections on five thousand channels: a few rows at a time', async (t) => {
  const [size, channels] = [10_000, 5_000];
  // None of them answers a ping: they are to stay for as long as it takes to make and to look at them all.
  const large = await Broker.during(t, { dashboard: { token: TOKEN }, server: { ping_interval: '1h' } });
  await crowd(t, large, size, (n) => `room-${n % channels}`);
  const page = await look(t, browser, large, 'connections');
  const pages = [];
  page.on('response', async (response) => {
    if (!/\/api\/(connections|channels)\?/.test(response.url())) return;
    const { rows: found } = await response.json().catch(() => ({ rows: [] }));
    pages.push(found.length);
  });
  await signIn(page);
  const few = async (what) => {
    const [lines, all] = [await rows(page).count(), await page.evaluate('document.querySelectorAll("*").length')];
    assert.ok(lines > 0 && lines < 60, `${what}: ${lines} rows are in the page`);
    assert.ok(all < 2_500, `${what}: ${all} elements are in the page`);
  };
  await eventuallyEqual('all are counted', () => text(page, '.total'), '10,000');
  await eventually('rows', async () => (await page.locator('.spacer .row:not(.loading)').count()) > 5);
  await few('the beginning');
  for (const part of [0.3, 0.9, 1]) {
    await page.evaluate((to) => { const list = document.querySelector('.table-body'); list.scrollTop = list.scrollHeight * to; }, part);
    await eventually('the rows there', async () => (await page.locator('.spacer .row:not(.loading)').count()) > 5 && (await page.locator('.spacer .row.loading').count()) === 0);
    await few(`at ${part}`);
  }
  await eventuallyEqual('the last one', () => page.locator('.spacer [aria-rowindex="10001"]').count(), 1);
  await page.fill('[data-search]', 'room-4999');
  await eventuallyEqual('two are found', () => text(page, '.total'), '2 of 10,000');
  await eventuallyEqual('and shown', () => rows(page).count(), 2);
  await page.keyboard.press('Escape');
  await page.keyboard.press('3');
  await eventuallyEqual('all channels', () => text(page, '.total'), '5,000');
  await few('channels');
  await page.locator('.spacer .row').first().focus();
  await page.keyboard.press('End');
  const selected = 'document.activeElement.classList.contains("loading") ? null : document.activeElement.ariaRowIndex';
  await eventuallyEqual('the keyboard gets to the end, and stays there when the row has come', () => page.evaluate(selected), '5001');
  await few('the last channels');
  await page.keyboard.press('1');
  await eventually('the overview counts them', async () => /10,000/.test(await text(page, '.tile')));
  await eventually('pages', () => pages.length >= 5);
  assert.ok(Math.max(...pages) <= 100, `pages of ${pages}`);
  const { rows: most } = await api(large, `connections?app=${APP.id}&limit=500`);
  assert.equal(most.length, 500, 'no page is larger');
  fine(page);
});

suite('for everybody', () => {
  test('with the keyboard alone', async (t) => {
    await holder(t, 11, 'ada');
    const page = await view(t, 'overview');
    await page.keyboard.press('4');
    await appears('the locks', row(page, 'order:11'));
    await page.keyboard.press('j');
    await eventually('a row is selected', async () => (await page.evaluate('document.activeElement.getAttribute("role")')) === 'row');
    const [style, width] = await page.evaluate('[getComputedStyle(document.activeElement).outlineStyle, getComputedStyle(document.activeElement).outlineWidth]');
    assert.deepEqual([style, width], ['solid', '2px'], 'the focus can be seen');
    await page.keyboard.press('Enter');
    await appears('its sheet', page.locator('dialog.drawer[open]'));
    await page.keyboard.press('Escape');
    await eventuallyEqual('closed', () => page.locator('dialog').count(), 0);
    await page.keyboard.press('?');
    await appears('the help', page.locator('dialog.help', { hasText: 'Keyboard' }));
    await page.keyboard.press('Escape');
    await eventuallyEqual('closed', () => page.locator('dialog').count(), 0);
    await page.keyboard.press('/');
    await eventuallyEqual('the search', () => page.evaluate('document.activeElement.type'), 'search');
    await page.keyboard.type('4');
    await eventuallyEqual('it is written, not obeyed', () => page.inputValue('[data-search]'), '4');
    fine(page);
  });

  test('everything that can be pressed or filled in has a name', async (t) => {
    await holder(t, 12, 'ada');
    const page = await view(t, 'overview');
    for (const [n, name] of ['overview', 'connections', 'channels', 'locks', 'log', 'delivery', 'nodes', 'console'].entries()) {
      await page.keyboard.press(String(n + 1));
      await page.locator(`main[data-view="${name}"] h1`).waitFor();
      if (['connections', 'channels', 'locks', 'log'].includes(name)) await page.locator('.spacer .row:not(.loading)').first().waitFor();
      const nameless = await page.evaluate(() => [...document.querySelectorAll('button, a, input, select, textarea, [role="img"], [role="grid"]')]
        .filter((element) => element.checkVisibility())
        .filter((element) => !(element.getAttribute('aria-label') || element.textContent.trim() || element.closest('label')?.textContent.trim()))
        .map((element) => element.outerHTML.slice(0, 100)));
      assert.deepEqual(nameless, []);
    }
    fine(page);
  });

  test('on a phone nothing hangs over the edge', async (t) => {
    const { fence } = await holder(t, 13, 'a-user-with-a-name-that-is-much-too-long-for-any-phone-in-the-world-and-goes-on');
    const raw = await RawSocket.established(t, broker);
    await raw.subscribe(`a-channel-${'with-a-long-name-'.repeat(9)}`);
    const page = await view(t, 'overview', { viewport: { width: 390, height: 844 }, hasTouch: true });
    for (const name of ['overview', 'connections', 'channels', 'locks', 'log', 'delivery', 'nodes', 'console']) {
      await page.locator(`nav [data-view="${name}"]`).click();
      await page.locator(`main[data-view="${name}"] h1`).waitFor();
      if (['connections', 'channels', 'locks', 'log'].includes(name)) await page.locator('.spacer .row:not(.loading)').first().waitFor();
      assert.equal(await sideways(page), 0, name);
      assert.equal(await page.evaluate('document.querySelector(".page").scrollWidth - document.querySelector(".page").clientWidth'), 0, `${name}, inside`);
    }
    await page.locator('nav [data-view="locks"]').click();
    const shown = (name) => row(page, 'order:13').locator(`[data-name="${name}"]`);
    assert.equal(await shown('Fence').innerText(), String(fence));
    for (const name of ['Fence', 'Age', 'State', 'Principal']) assert.ok(await shown(name).isVisible(), name);
    const inside = await row(page, 'order:13').evaluate((line) => [...line.children].every((cell) => cell.getBoundingClientRect().bottom <= line.getBoundingClientRect().bottom));
    assert.ok(inside, 'each line within its row');
    await row(page, 'order:13').click({ position: { x: 40, y: 14 } });
    await appears('the sheet', page.locator('dialog.drawer[open]'));
    assert.equal(await page.evaluate('document.querySelector("dialog").getBoundingClientRect().width'), 390, 'it has the whole width');
    assert.equal(await sideways(page), 0);
    fine(page);
  });

  test('light and dark, as the system says or as the button does', async (t) => {
    const page = await view(t, 'overview', { colorScheme: 'dark' });
    const brightness = async () => Number((await page.evaluate('getComputedStyle(document.body).backgroundColor')).match(/\d+/)[0]);
    assert.ok((await brightness()) < 60, 'as the system');
    await page.click('#theme');
    assert.ok((await brightness()) > 200, 'as the button');
    await page.reload();
    await page.locator('nav').waitFor();
    assert.ok((await brightness()) > 200, 'it is remembered');
    await page.keyboard.press('t');
    assert.ok((await brightness()) < 60);
    fine(page);
  });
});
