// What `holdline doctor` prints to paste, pasted: into pusher-js, Laravel Echo and the environment of a server SDK, against the same broker.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { promisify } from 'node:util';
import Echo from 'laravel-echo';
import Server from 'pusher';
import Pusher from 'pusher-js';
import { Broker } from './support/broker.mjs';
import { textOf } from './support/server-sdk.mjs';
import { eventually } from './support/waiting.mjs';

/** Asks the doctor about a broker that runs, on the port that it has. */
async function pasted(broker, ...args) {
  const command = ['doctor', '--json', '--show-secret', '--config', join(broker.directory, 'holdline.toml'), ...args];
  const env = { PATH: process.env.PATH, HOLDLINE_SERVER__PORT: String(broker.port) };
  const { stdout } = await promisify(execFile)(process.env.HOLDLINE_BIN, command, { env, cwd: broker.directory }).catch((error) => error);
  const report = JSON.parse(stdout);
  assert.deepEqual(report.checks.filter(({ verdict }) => verdict === 'fail'), []);
  return report.paste;
}

/** The lines of a program, without its imports, which are given. */
const run = (code, names, result) => {
  const body = code.replace(/^import .*\n/gm, '');
  return new Function(...Object.keys(names), `${body}\nreturn ${result};`)(...Object.values(names));
};

/** As Laravel reads it: values may be quoted, and name others. */
function dotenv(text) {
  const values = {};
  for (const line of text.split('\n').filter((line) => line && !line.startsWith('#'))) {
    const [, name, value] = /^(\w+)=(.*)$/.exec(line);
    const inner = value.startsWith('"') ? value.slice(1, -1).replace(/\$\{(\w+)\}/g, (_, other) => values[other]).replace(/\\(.)/g, '$1') : value;
    values[name] = inner;
  }
  return values;
}

const connected = (pusher) => eventually('the client is connected', () => pusher.connection.state === 'connected');
const SECRET = 'a $trange "secret", with \\ and \'';
const app = { id: 'shop', key: 'shop-key', secret: SECRET, client_events: true };

suite('what the doctor prints', () => {
  for (const prefix of ['', '/realtime']) {
    test(`connects ${prefix ? 'below a prefix' : 'without one'}`, async (t) => {
      const broker = await Broker.during(t, { apps: [app], server: prefix ? { path_prefix: prefix, trusted_proxies: ['127.0.0.1'] } : {} });
      const { env, echo, pusher_js } = await pasted(broker);
      const pusher = run(pusher_js, { Pusher }, 'pusher');
      t.after(() => pusher.disconnect());
      await connected(pusher);

      // Echo looks for it there.
      const window = (globalThis.window = {});
      t.after(() => delete globalThis.window);
      const client = run(echo, { Pusher, Echo, window }, 'window.Echo');
      t.after(() => client.disconnect());
      await connected(client.connector.pusher);
      const heard = [];
      client.channel('orders').listen('.OrderShipped', (data) => heard.push(data));
      await eventually('the channel is joined', () => client.connector.pusher.channel('orders').subscribed);

      const values = dotenv(env);
      assert.equal(values.PUSHER_APP_SECRET, SECRET);
      assert.equal(values.VITE_PUSHER_HOST, values.PUSHER_HOST);
      const path = /'path' => '(.*)'/.exec(env)?.[1] ?? '';
      assert.equal(path, prefix);
      const sdk = new Server({
        appId: values.PUSHER_APP_ID, key: values.PUSHER_APP_KEY, secret: values.PUSHER_APP_SECRET,
        host: `${values.PUSHER_HOST}:${values.PUSHER_PORT}${path}`, useTLS: values.PUSHER_SCHEME === 'https',
      });
      await textOf(sdk.trigger('orders', 'OrderShipped', { id: 42 }));
      await eventually('the event', () => heard.length === 1);
      assert.deepEqual(heard, [{ id: 42 }]);
    });
  }
});
