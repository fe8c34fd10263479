// Pages of headless Chromium that hold things with clients/js, its committed build, at an application with a real auth endpoint.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { AuthServer } from './auth-server.mjs';
import { APP, Broker } from './broker.mjs';
import { launch, patient } from './desk.mjs';
import { serverSdk } from './server-sdk.mjs';
import { eventually } from './waiting.mjs';

const require = createRequire(import.meta.url);
const DIST = new URL('../../../clients/js/dist/', import.meta.url);

/** Longer than anything here takes: whoever comes back is in time, and what is free sooner was given back. */
const GRACE = '3m';
const order = { resource: 'order:{order_id}', event: 'Order', grace: GRACE, show_holder: true };
export const HOLDS = [
  { ...order, channel: 'private-order.{order_id}' },
  { ...order, channel: 'private-quiet.{order_id}', resource: 'quiet:{order_id}', show_holder: false },
  { ...order, channel: 'private-taken.{order_id}', resource: 'taken:{order_id}', if_taken: 'take' },
  { ...order, channel: 'private-brief.{order_id}', resource: 'brief:{order_id}', grace: '0s' },
];

export class World {
  static async start(config = {}) {
    const world = new World();
    world.auth = await AuthServer.start();
    world.broker = await Broker.start({ apps: [{ ...APP, holds: HOLDS }], ...config });
    world.auth.sdk = world.sdk = serverSdk(world.broker);
    for (const name of readdirSync(DIST).filter((name) => name.endsWith('.js'))) {
      world.auth.pages.set(`/holdline/${name}`, readFileSync(new URL(name, DIST)));
    }
    world.serve('/helper.html', new URL('pages/helper.html', import.meta.url));
    world.serve('/pusher.js', new URL('../web/pusher.js', `file://${require.resolve('pusher-js')}`));
    world.serve('/echo.js', new URL(import.meta.resolve('laravel-echo')));
    world.browser = await launch();
    return world;
  }

  serve(path, file) {
    this.auth.pages.set(path, readFileSync(file));
  }

  async stop() {
    await this.browser?.close();
    await this.auth.stop();
    await this.broker.stop();
  }

  /** Somebody's own browser. */
  async browserOf(t, user) {
    const context = patient(await this.browser.newContext());
    t.after(() => context.close());
    await context.addCookies([{ name: 'user', value: user, url: this.auth.url }]);
    return context;
  }

  /** A page in a browser; errors of the page, and requests to anybody else, are noted. */
  async page(context, path = '/helper.html', settings = {}) {
    const page = await context.newPage();
    page.wrong = [];
    page.on('pageerror', (error) => page.wrong.push(error.message));
    page.on('request', (request) => new URL(request.url()).hostname === '127.0.0.1' || page.wrong.push(`asked ${request.url()}`));
    await page.goto(`${this.auth.url}${path}?${new URLSearchParams({ key: APP.key, port: this.broker.port, ...settings })}`);
    await page.waitForFunction('window.ready');
    return page;
  }

  /** A person who is signed in, with a client that is connected. */
  async person(t, user, { kind = 'pusher', ...settings } = {}) {
    const page = await this.page(await this.browserOf(t, user), '/helper.html', { signin: '', ...settings });
    await page.evaluate((kind) => window.use(kind), kind);
    await eventually('a connection', () => page.evaluate('pusher.connection.state === "connected"'));
    return page;
  }

  /** The locks that are alive, by resource: fence and principal. */
  async locks() {
    const { locks } = await (await this.sdk.get({ path: '/locks' })).json();
    return Object.fromEntries(locks.map(({ resource, fence, principal, state }) => [resource, { fence, principal, state }]));
  }

  /** As an operator does. */
  async forceRelease(fence) {
    const { status } = await this.sdk.post({ path: `/locks/${fence}/release`, body: {} });
    assert.equal(status, 200);
  }

  /** Sooner than any grace is over. */
  async freed(resource) {
    await eventually(`${resource} is free`, async () => !(resource in (await this.locks())));
  }
}

export const fine = (...pages) => assert.deepEqual(pages.map(({ wrong }) => wrong), pages.map(() => []));
/** Opens a channel in a page, as `window.h` or another name; answers its state at that moment, and does not wait for anything. */
export const open = (page, channel, options = {}, as = 'h') =>
  page.evaluate(([channel, options, as]) => (window[as] = window.open_(channel, options)).state, [channel, options, as]);
export const at = (page, as = 'h') => page.evaluate((as) => ({ ...window[as].snapshot }), as);
/** Waits for a state, and answers the snapshot that had it: the next one may be another. */
export const becomes = (page, state, { as = 'h', ...options } = {}) =>
  eventually(`the hold is ${state}`, async () => {
    const snapshot = await at(page, as);
    assert.equal(snapshot.state, state);
    return snapshot;
  }, options);
/** Opens a channel that must be had, and answers where it stands. */
export const take = async (page, channel, options, as) => {
  await open(page, channel, options, as);
  return becomes(page, 'held', { as });
};
export const log = (page) => page.evaluate('window.log');
