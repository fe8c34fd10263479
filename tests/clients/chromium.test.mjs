// Two people in two contexts of headless Chromium: chat over a private channel, and Laravel Echo, with a real auth endpoint.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, suite, test } from 'node:test';
import { AuthServer } from './support/auth-server.mjs';
import { APP, Broker, app } from './support/broker.mjs';
import { launch, patient } from './support/desk.mjs';
import { serverSdk } from './support/server-sdk.mjs';
import { PATIENCE, always, eventually, eventuallyEqual } from './support/waiting.mjs';

const CHOOSY = app('choosy', { allowed_origins: ['https://good.example'] });
const FRIENDLY = app('friendly');

const require = createRequire(import.meta.url);
const PAGES = {
  '/chat.html': new URL('support/pages/chat.html', import.meta.url),
  '/echo.html': new URL('support/pages/echo.html', import.meta.url),
  '/pusher.js': new URL('../web/pusher.js', `file://${require.resolve('pusher-js')}`),
  '/pusher-with-encryption.js': new URL('../web/pusher-with-encryption.js', `file://${require.resolve('pusher-js')}`),
  '/echo.js': new URL(import.meta.resolve('laravel-echo')),
};

let broker, sdk, auth, browser;

before(async () => {
  auth = await AuthServer.start();
  broker = await Broker.start({ apps: [APP, CHOOSY, { ...FRIENDLY, allowed_origins: [auth.url] }] });
  auth.sdk = sdk = serverSdk(broker);
  for (const [path, file] of Object.entries(PAGES)) auth.pages.set(path, readFileSync(file));
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await auth.stop();
  await broker.stop();
});

/** A person's own browser context, with a session cookie, on one page. Errors of the page fail the test; so does any foreign address. */
async function person(t, user, path, settings = {}) {
  const context = patient(await browser.newContext());
  t.after(() => context.close());
  const page = await context.newPage();
  page.wrong = [];
  page.on('pageerror', (error) => page.wrong.push(error.message));
  page.on('request', (request) => new URL(request.url()).hostname === '127.0.0.1' || page.wrong.push(`asked ${request.url()}`));
  await context.addCookies([{ name: 'user', value: user, url: auth.url }]);
  const query = new URLSearchParams({ key: APP.key, port: broker.port, name: auth.users[user].info.name, ...settings });
  await page.goto(`${auth.url}${path}?${query}`);
  return page;
}

const lines = (page, list) => page.locator(`#${list} li`).allTextContents();
const shows = (page, id, text) => eventuallyEqual(`${id} of the page`, () => page.locator(`#${id}`).textContent(), text);
const fine = (...pages) => assert.deepEqual(pages.map(({ wrong }) => wrong), pages.map(() => []));

suite('chat over a private channel', () => {
  const say = async (page, text) => {
    await page.fill('#text', text);
    await page.press('#text', 'Enter');
  };

  test('what one types stands in the page of the other, in order, once', async (t) => {
    const [ada, bob] = [await person(t, '42', '/chat.html'), await person(t, '7', '/chat.html')];
    for (const page of [ada, bob]) await shows(page, 'state', 'in the chat');
    await say(ada, 'Hello Bob, grüß dich 👋');
    await eventuallyEqual('Bob reads it', () => lines(bob, 'messages'), ['Ada: Hello Bob, grüß dich 👋']);
    await say(bob, 'Hello <b>Ada</b>');
    await eventuallyEqual('Ada reads it', () => lines(ada, 'messages'), ['me: Hello Bob, grüß dich 👋', 'Bob: Hello <b>Ada</b>']);
    await sdk.trigger('private-chat', 'announcement', { text: 'closing soon' });
    await eventuallyEqual('both read the server', async () => [(await lines(ada, 'messages')).slice(2), (await lines(bob, 'messages')).slice(2)], [
      ['server: closing soon'],
      ['server: closing soon'],
    ]);
    assert.deepEqual(await lines(bob, 'messages'), ['Ada: Hello Bob, grüß dich 👋', 'me: Hello <b>Ada</b>', 'server: closing soon']);
    fine(ada, bob);
  });

  test('the endpoint was asked by the pages, with their cookies', () => {
    const asked = auth.requests.filter(({ form }) => form.channel_name === 'private-chat').map(({ headers }) => headers.cookie);
    assert.deepEqual(asked.sort(), ['user=42', 'user=7']);
  });

  test('after a crash of the broker the pages find it again and chat on', async (t) => {
    const [ada, bob] = [await person(t, '42', '/chat.html'), await person(t, '7', '/chat.html')];
    for (const page of [ada, bob]) await shows(page, 'state', 'in the chat');
    const socketIds = () => Promise.all([ada, bob].map((page) => page.evaluate('pusher.connection.state === "connected" && pusher.connection.socket_id')));
    const before = await socketIds();
    await broker.kill();
    await broker.startAgain();
    // When an attempt meets a closed port, pusher-js waits 15 s before the next one.
    const renewed = async () => (await socketIds()).every((id, n) => id && id !== before[n]);
    await eventually('new connections', renewed, { within: 3 * PATIENCE });
    for (const page of [ada, bob]) await shows(page, 'state', 'in the chat');
    await say(ada, 'still there?');
    await eventuallyEqual('Bob reads it', () => lines(bob, 'messages'), ['Ada: still there?']);
    fine(ada, bob);
  });

  test('a page from a foreign origin is told 4009 and stays out; an allowed one gets in', async (t) => {
    const stranger = await person(t, '42', '/chat.html', { key: CHOOSY.key });
    await shows(stranger, 'refusal', '4009 Origin not allowed');
    await always('it stays out', async () => (await stranger.locator('#state').textContent()) === 'disconnected');
    const friend = await person(t, '42', '/chat.html', { key: FRIENDLY.key });
    // The endpoint signs for another application, so the channel is refused, which only a connected page can be.
    await shows(friend, 'refusal', '401 The connection is unauthorized.');
    await shows(friend, 'state', 'connected');
    fine(stranger, friend);
  });
});

for (const broadcaster of ['pusher', 'reverb']) {
  test(`Laravel Echo in the page, broadcaster ${broadcaster}`, async (t) => {
    const ada = await person(t, '42', '/echo.html', { broadcaster });
    await eventuallyEqual('Ada is here', () => lines(ada, 'here'), ['Ada']);
    const bob = await person(t, '7', '/echo.html', { broadcaster });
    await eventuallyEqual('Bob sees both', async () => (await lines(bob, 'here')).sort(), ['Ada', 'Bob']);
    for (const page of [ada, bob]) {
      await shows(page, 'state', 'signed in');
      await eventually('the encrypted channel', async () => (await lines(page, 'log')).includes('vault open'));
    }
    await bob.click('#wave');
    await eventually('the wave', async () => (await lines(ada, 'log')).includes('wave from Bob'));
    await sdk.trigger('presence-room', 'App\\Events\\Announced', { text: 'news' });
    await sdk.trigger('private-encrypted-vault', 'deposit', { gold: 7 });
    await sdk.sendToUser('42', 'notice', { text: 'for Ada' });
    await bob.close();
    await eventually('Bob has left', async () => (await lines(ada, 'log')).includes('leaving: Bob'));
    await eventuallyEqual('all of it', async () => (await lines(ada, 'log')).sort(), [
      'announced: news', 'deposit: 7', 'joining: Bob', 'leaving: Bob', 'refused: 403', 'to me: for Ada', 'vault open', 'wave from Bob',
    ]);
    fine(ada);
  });
}
