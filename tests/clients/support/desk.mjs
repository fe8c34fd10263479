// Tabs of headless Chromium at the order desk that the real binary serves, on SQLite.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { eventually, eventuallyEqual } from './waiting.mjs';

// Playwright adds an empty --user-data-dir of its own.
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
/** No applications: the one for development, with its own rule. A pulled plug is noticed after two seconds instead of 35. */
export const DEVELOPMENT = { apps: [], server: { ping_interval: '1s', pong_timeout: '1s' } };
/** The grace of the development application's rule. */
export const GRACE = 5_000;

export const launch = () => chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });

/** The address that the broker says at its start. */
export const deskOf = (broker) => broker.messages().map((text) => /^Order desk: (\S+)$/.exec(text)?.[1]).find(Boolean);

/** Somebody's own browser at the desk of a broker. */
export async function sitDown(t, browser, broker, who, options) {
  const context = await browser.newContext(options);
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
export const says = (page, id, expected, within = 10_000) => eventuallyEqual(`#${id}`, () => text(page, id), expected, { within });
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
  const entry = await eventually(`the end of fence ${fence} in the log`, read, { within: 10_000 });
  return [entry.type, entry.resource, entry.principal, entry.cause, entry.after_grace];
}
