// The React hook of clients/js in headless Chromium, with React 18 and 19 as they come, in and out of strict mode; and on a server.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { moduleOf } from './support/commonjs.mjs';
import { World, becomes, fine, open, take } from './support/holds.mjs';
import { always, eventually, eventuallyEqual } from './support/waiting.mjs';

const PACKAGE = fileURLToPath(new URL('../../clients/js/', import.meta.url));
const VERSIONS = { 18: ['react-18', 'react-dom-18', 'cjs/react-dom.development.js'], 19: ['react', 'react-dom', 'cjs/react-dom-client.development.js'] };

/** What the page and the hook import of React. */
const NAMES = ['StrictMode', 'createContext', 'createElement', 'useContext', 'useEffect', 'useMemo', 'useRef', 'useState', 'useSyncExternalStore'];
const folder = (name) => fileURLToPath(new URL(`node_modules/${name}/`, import.meta.url));

let world;

before(async () => {
  world = await World.start();
  const page = readFileSync(new URL('support/pages/react.html', import.meta.url), 'utf8');
  for (const [version, [react, dom, client]] of Object.entries(VERSIONS)) {
    const at = `/react/${version}`;
    const { pages } = world.auth;
    const from = createRequire(`${folder(dom)}package.json`);
    const scheduler = join(from.resolve('scheduler/package.json'), '../cjs/scheduler.development.js');
    pages.set(`/react${version}.html`, page.replaceAll('VERSION', version));
    pages.set(`${at}/react.js`, moduleOf(`${folder(react)}cjs/react.development.js`, NAMES));
    pages.set(`${at}/scheduler.js`, moduleOf(scheduler, []));
    pages.set(`${at}/react-dom.js`, moduleOf(`${folder(dom)}${client}`, ['createRoot'], {
      react: `${at}/react.js`, scheduler: `${at}/scheduler.js`, ...(version === '19' && { 'react-dom': `${at}/dom.js` }),
    }));
    if (version === '19') pages.set(`${at}/dom.js`, moduleOf(`${folder(dom)}cjs/react-dom.development.js`, [], { react: `${at}/react.js` }));
  }
});

after(() => world?.stop());

const person = async (t, version, user, settings) => world.page(await world.browserOf(t, user), `/react${version}.html`, settings);
const shows = (page, expected, name = 'one') =>
  eventuallyEqual(`what ${name} shows`, () => page.locator(`#${name} .state`).textContent(), expected);
const fence = async (page, name = 'one') => Number(await page.locator(`#${name} .fence`).textContent());

let number = 100;

for (const version of Object.keys(VERSIONS)) {
  suite(`React ${version}`, () => {
    test('held while it is mounted; released when it is not', async (t) => {
      const order = String(++number);
      const ada = await person(t, version, '42', { order });
      await shows(ada, 'held');
      const given = (await world.locks())[`order:${order}`];
      assert.deepEqual([await fence(ada), given.principal], [given.fence, 'user:42']);
      assert.equal(await ada.locator('#one .holder').textContent(), 'user:42');
      await ada.evaluate('show({})');
      await world.freed(`order:${order}`);
      assert.deepEqual(await ada.evaluate('told'), [`one: held ${given.fence}`]);
      fine(ada);
    });

    test('strict mode mounts twice, and subscribes once', async (t) => {
      const order = String(++number);
      const ada = await person(t, version, '42', { order, strict: '' });
      await shows(ada, 'held');
      assert.deepEqual(await ada.evaluate('sent'), [`subscribe private-order.${order}`]);
      assert.deepEqual(await ada.evaluate('told.length'), 1);
      // Another component that uses the same one, and the first one gone in the same moment: the lock is kept.
      const kept = await fence(ada);
      await ada.evaluate((order) => show({ two: order }), order);
      await shows(ada, 'held', 'two');
      await always('it is kept', async () => (await world.locks())[`order:${order}`]?.fence === kept, { during: 500 });
      assert.deepEqual(await ada.evaluate('sent'), [`subscribe private-order.${order}`]);
      // Another order: this one is let go.
      const next = String(++number);
      await ada.evaluate((order) => show({ two: order }), next);
      await world.freed(`order:${order}`);
      await eventually('the next one', async () => (await fence(ada, 'two')) > kept);
      await ada.evaluate('root.unmount()');
      await world.freed(`order:${next}`);
      fine(ada);
    });

    test('refused, free, and had; lost, and asked for again', async (t) => {
      const order = String(++number);
      const bob = await world.person(t, '7');
      await take(bob, `private-order.${order}`);
      const ada = await person(t, version, '42', { order, strict: '' });
      await shows(ada, 'refused');
      assert.equal(await ada.locator('#one .holder').textContent(), 'user:7');
      await bob.evaluate('h.release()');
      await shows(ada, 'free');
      await ada.click('#one button');
      await shows(ada, 'held');
      const first = await fence(ada);
      await world.forceRelease(first);
      await shows(ada, 'lost');
      assert.equal(await fence(ada), first);
      await ada.click('#one button');
      await shows(ada, 'held');
      const told = ['one: LockConflict', 'one: free', `one: held ${first}`, `one: lost ${first} force_released`, `one: held ${await fence(ada)}`];
      assert.deepEqual(await ada.evaluate('told'), told);
      fine(ada, bob);
    });

    test('with retry it is had as soon as it is free', async (t) => {
      const order = String(++number);
      const ada = await person(t, version, '42', { order, retry: '' });
      await shows(ada, 'held');
      const bob = await world.person(t, '7');
      await open(bob, `private-order.${order}`);
      await becomes(bob, 'refused');
      await ada.evaluate('show({})');
      await becomes(bob, 'free');
      await take(bob, `private-order.${order}`, {}, 'b');
      await ada.evaluate((order) => show({ one: order }), order);
      await shows(ada, 'refused');
      await bob.evaluate('Promise.all([h.release(), b.release()])');
      await shows(ada, 'held');
      fine(ada, bob);
    });

    test('on a server it is drawn as pending, and touches nothing', (t) => {
      const place = mkdtempSync(join(tmpdir(), 'holdline-ssr-'));
      t.after(() => rmSync(place, { recursive: true, force: true }));
      const [react, dom] = VERSIONS[version];
      mkdirSync(join(place, 'node_modules/@holdline'), { recursive: true });
      symlinkSync(folder(react), join(place, 'node_modules/react'));
      symlinkSync(folder(dom), join(place, 'node_modules/react-dom'));
      cpSync(PACKAGE, join(place, 'node_modules/@holdline/client'), { recursive: true, filter: (path) => !path.includes('/client/node_modules') && !path.endsWith('/node_modules') });
      writeFileSync(join(place, 'page.mjs'), `
        import { createElement as h } from 'react';
        import { renderToString } from 'react-dom/server';
        import { HoldlineProvider, useHold } from '@holdline/client/react';
        import { hold } from '@holdline/client';
        function Order() { const { state, fence } = useHold('private-order.1'); return h('p', null, state, String(fence)); }
        console.log(typeof hold, renderToString(h(HoldlineProvider, { client: null }, h(Order))), renderToString(h(Order)));
      `);
      const said = execFileSync('node', ['--preserve-symlinks', 'page.mjs'], { cwd: place, encoding: 'utf8' });
      const drawn = '<p>pending<!-- -->undefined</p>';
      assert.equal(said, `function ${drawn} ${drawn}\n`);
    });
  });
}
