// Pages that run what the guides say, in headless Chromium, with stock pusher-js and Laravel Echo.
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { launch, patient } from './desk.mjs';
import { eventually } from './waiting.mjs';

const require = createRequire(import.meta.url);
const PUSHER = new URL('../web/', `file://${require.resolve('pusher-js')}`);

const CLIENT = new URL('../../../clients/js/dist/', import.meta.url);

/** What a bundler would have put together. */
export const LIBRARIES = {
  '/vendor/pusher-lib.js': readFileSync(new URL('pusher.js', PUSHER), 'utf8'),
  '/vendor/pusher-esm.js': 'import "/vendor/pusher-lib.js"; export default window.Pusher;',
  ...Object.fromEntries(readdirSync(CLIENT).filter((name) => name.endsWith('.js')).map((name) => [`/vendor/${name}`, readFileSync(new URL(name, CLIENT), 'utf8')])),
  '/vendor/echo.js': readFileSync(new URL(import.meta.resolve('laravel-echo')), 'utf8'),
};
/** An empty page in which `laravel-echo` and `pusher-js` can be imported. */
export const shell = (body = '') => `<!doctype html><title>A page</title>
<script type="importmap">{"imports":{"@holdline/client":"/vendor/index.js","laravel-echo":"/vendor/echo.js","pusher-js":"/vendor/pusher-esm.js"}}</script>${body}`;

export { launch };

/** A page of somebody's own. What goes wrong in it is noted; what it asks of a CDN for pusher-js is answered from here. */
export async function open(t, browser, url, { user } = {}) {
  const context = patient(await browser.newContext());
  t.after(() => context.close());
  const page = await context.newPage();
  page.wrong = [];
  page.said = [];
  // Said at once, too: what is waited for does not come, and this is why. The stack names the block.
  page.on('pageerror', (error) => {
    page.wrong.push(error.stack);
    t.diagnostic(error.stack);
  });
  page.on('console', (message) => page.said.push(message.text()));
  await page.route('https://js.pusher.com/8.4.0/pusher.min.js', (route) =>
    route.fulfill({ contentType: 'text/javascript', body: readFileSync(new URL('pusher.min.js', PUSHER)) }));
  page.on('request', (request) => /^(https:\/\/js\.pusher\.com\/|file:|http:\/\/127\.0\.0\.1:)/.test(request.url()) || page.wrong.push(`asked ${request.url()}`));
  if (user) await context.addCookies([{ name: 'user', value: user, url }]);
  await page.goto(url);
  return page;
}

/** Runs a block as a module of the page; what it throws names the block. */
export async function run(page, ...blocks) {
  for (const { text, place } of blocks) {
    const done = `done${Math.random().toString(36).slice(2)}`;
    await page.addScriptTag({ type: 'module', content: `${text}\nwindow.${done} = true;\n//# sourceURL=${place}` });
    const ended = () => page.wrong.length > 0 || page.evaluate((name) => window[name], done);
    await eventually(`${place} has run to its end`, ended);
    if (!await page.evaluate((name) => window[name], done)) throw new Error(`${place}: it did not run to its end: ${page.wrong.join('; ')}`);
  }
}
