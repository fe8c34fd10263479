// Tabs of headless Chromium at the order desk that the real binary serves, on SQLite.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { APP } from './broker.mjs';
import { PATIENCE, eventually, eventuallyEqual } from './waiting.mjs';

// Playwright adds an empty --user-data-dir of its own.
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
/** No applications: the one for development, with its own rule. */
export const DEVELOPMENT = { apps: [] };
/** The grace of the development application's rule. */
export const GRACE = 5_000;
/** The same with another grace. */
export const withGrace = (grace) => ({
  apps: [{ ...APP, holds: [{ channel: 'private-order.{order_id}', resource: 'order:{order_id}', event: 'Order', show_holder: true, grace }] }],
});
/** Whoever comes back is in time, however slow the machine is. */
export const PATIENT = withGrace('3m');

export const launch = (...more) => chromium.launch({ executablePath: '/usr/bin/chromium', args: [...FLAGS, ...more], timeout: 4 * PATIENCE });

/** A context whose pages wait as long as these tests do. */
export function patient(context) {
  context.setDefaultTimeout(2 * PATIENCE);
  return context;
}

/** The address that the broker says at its start. */
export const deskOf = (broker) => broker.messages().map((text) => /^Order desk: (\S+)$/.exec(text)?.[1]).find(Boolean);

/** Somebody's own browser at the desk of a broker. */
export async function sitDown(t, browser, broker, who, options) {
  const context = patient(await browser.newContext(options));
  t.after(() => context.close());
  return tab(context, broker, who);
}

/** One more tab in somebody's browser; without a name, the page gives it one. What goes wrong in the page, and what it asks of others than the broker, is noted. */
export async function tab(context, broker, who) {
  const page = await context.newPage();
  page.wrong = [];
  page.on('pageerror', (error) => page.wrong.push(error.message));
  page.on('console', (message) => /Content Security Policy|Refused to/.test(message.text()) && page.wrong.push(message.text()));
  page.on('request', (request) => new URL(request.url()).hostname === '127.0.0.1' || page.wrong.push(`asked ${request.url()}`));
  await page.goto(who ? `${deskOf(broker)}?as=${who}` : deskOf(broker));
  await page.locator('[data-order]').first().waitFor();
  return page;
}

export const fine = (...pages) => assert.deepEqual(pages.map(({ wrong }) => wrong), pages.map(() => []));
export const text = (page, id) => page.locator(`#${id}`).textContent();
export const says = (page, id, expected, options) => eventuallyEqual(`#${id}`, () => text(page, id), expected, options);
/** Notes from now on what an element says, for words that stand there for a moment only; answers what it has said so far. */
export async function noting(page, id) {
  await page.evaluate((id) => {
    const element = document.getElementById(id);
    const said = ((window.said ??= {})[id] = []);
    new MutationObserver(() => said.push(element.textContent)).observe(element, { childList: true, characterData: true, subtree: true });
  }, id);
  return () => page.evaluate((id) => window.said[id], id);
}
export const open = (page, order) => page.click(`[data-order="${order}"]`);
/** Who has an order, in the list. */
export const stateOf = (page, order) => page.locator(`[data-order="${order}"] .state`).textContent();

/** Opens an order that must be had, and answers the fence. */
export async function take(page, order) {
  await open(page, order);
  await says(page, 'headline', `You hold order ${order}`);
  return Number(await text(page, 'fence'));
}

/** How a lock ended, in the page's log: type, resource, principal, cause, and whether the grace was waited for. */
export async function end(page, fence) {
  const line = page.locator(`#log [data-kind="unlocked"][data-fence="${fence}"] pre`);
  const read = async () => (await line.count()) === 1 && JSON.parse(await line.textContent());
  const entry = await eventually(`the end of fence ${fence} in the log`, read);
  return [entry.type, entry.resource, entry.principal, entry.cause, entry.after_grace];
}
