// Tabs of headless Chromium at the dashboard that the real binary serves, and crowds of plain sockets to look at.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { launch, patient } from './desk.mjs';
import { APP } from './broker.mjs';
import { eventually } from './waiting.mjs';

export { launch };
export const TOKEN = 'a-token-that-nobody-guesses';

/** The application of the tests with a rule for orders, which users hold for as long as they are away. */
export const HOLDING = { ...APP, holds: [{ channel: 'private-order.{id}', resource: 'order:{id}', event: 'Order', grace: '1h' }] };

/** A tab. What goes wrong in the page, and what it asks of others than the broker, is noted. */
export async function look(t, browser, broker, view = 'overview', options = {}) {
  const context = patient(await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options }));
  t.after(() => context.close());
  const page = await context.newPage();
  page.wrong = [];
  page.on('pageerror', (error) => page.wrong.push(error.message));
  page.on('console', (message) => /Content Security Policy|Refused to|Uncaught/.test(message.text()) && page.wrong.push(message.text()));
  page.on('request', (request) => new URL(request.url()).hostname === '127.0.0.1' || page.wrong.push(`asked ${request.url()}`));
  await page.goto(`${broker.url}/dashboard#/${view}`);
  return page;
}

export const signIn = async (page, token = TOKEN) => {
  await page.fill('[name="token"]', token);
  await page.press('[name="token"]', 'Enter');
};

export const fine = (...pages) => assert.deepEqual(pages.map(({ wrong }) => wrong), pages.map(() => []));
export const text = async (page, selector) => (await page.locator(selector).first().textContent())?.trim();
/** The rows that are in the page, which are few of all there are. */
export const rows = (page) => page.locator('.spacer .row');
export const row = (page, words) => rows(page).filter({ hasText: words });
export const sideways = (page) => page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');

/** One frame of text as a client sends it: masked, with a mask of zeros. */
function frame(value) {
  const body = Buffer.from(JSON.stringify(value));
  const head = body.length < 126 ? Buffer.from([0x81, 0x80 | body.length]) : Buffer.from([0x81, 0x80 | 126, body.length >> 8, body.length & 255]);
  return Buffer.concat([head, Buffer.alloc(4), body]);
}

/**
 * Opens so many plain sockets, and subscribes each to `channelOf(n)`; a few hundred handshakes at a time. They read nothing but away. The
 * broker turns away who has waited too long for it, on a busy machine: then comes another.
 */
export async function crowd(t, broker, size, channelOf) {
  const sockets = new Set();
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  const one = (n) => new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: broker.port, localAddress: `127.0.0.${1 + (n % 8)}` });
    sockets.add(socket);
    socket.once('error', reject);
    socket.once('close', () => {
      sockets.delete(socket);
      reject(new Error(`the broker has closed connection ${n} after: ${seen.slice(0, 300)}`));
    });
    let [seen, asked] = ['', false];
    socket.write(`GET /app/${APP.key}?protocol=7&client=js&version=8 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`);
    const read = (chunk) => {
      seen += chunk.toString('latin1');
      if (!asked && seen.includes('connection_established')) {
        asked = true;
        socket.write(frame({ event: 'pusher:subscribe', data: { channel: channelOf(n) } }));
      }
      if (seen.includes('subscription_succeeded')) {
        socket.off('data', read);
        socket.resume();
        resolve();
      }
    };
    socket.on('data', read);
  });
  const surely = (n) => eventually(`connection ${n}`, () => one(n).then(() => true));
  for (let n = 0; n < size; n += 250) await Promise.all(Array.from({ length: Math.min(250, size - n) }, (_, i) => surely(n + i)));
  return sockets;
}

/** What an API call of the page answers, asked from here. */
export async function api(broker, path, { token = TOKEN, body } = {}) {
  const response = await fetch(`${broker.url}/dashboard/api/${path}`, {
    method: body ? 'POST' : 'GET', body: body && JSON.stringify(body),
    headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
  });
  return response.json();
}

export const appears = (what, locator) => eventually(what, async () => (await locator.count()) > 0 && (await locator.first().isVisible()));
