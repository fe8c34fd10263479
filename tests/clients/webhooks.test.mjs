// The receivers of src/docs/webhooks.md, as they stand there: the SDKs of Node and Python and plain PHP check what the broker sends.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { APP as ANY, Broker } from './support/broker.mjs';
import { freePort } from './support/ports.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { serverSdk } from './support/server-sdk.mjs';
import { PATIENCE, eventually, eventuallyEqual } from './support/waiting.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
// Python's SDK takes numbers only.
const APP = { ...ANY, id: '1001' };
// Below node_modules, so that the SDK is found from there, as from any application's own directory.
const PLACE = here(`node_modules/.receivers-${process.pid}`);

/** The code under a heading of the page. */
function example(heading) {
  const page = readFileSync(here('../../src/docs/webhooks.md'), 'utf8');
  const code = new RegExp(`\n### ${heading}\n[^]*?\n\`\`\`[a-z]+\n([^]*?)\n\`\`\`\n`).exec(page);
  assert.ok(code, `an example for ${heading}`);
  return code[1];
}

const write = (name, code) => {
  const file = join(PLACE, name);
  writeFileSync(file, code);
  return file;
};

const running = new Set();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(PLACE, { recursive: true, force: true });
});

/** A receiver in a process of its own; what it printed of events. */
class Receiver {
  events = [];

  static async start(path, command, port) {
    const receiver = new Receiver();
    port ??= await freePort();
    receiver.url = `http://127.0.0.1:${port}${path}`;
    const [program, ...args] = command(port);
    const env = { ...process.env, PUSHER_APP_ID: APP.id, PUSHER_APP_KEY: APP.key, PUSHER_APP_SECRET: APP.secret, PORT: String(port), LARAVEL_ROUTES: join(PLACE, 'api.php') };
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    child.on('error', (error) => assert.fail(`${program} is needed: ${error.message}`));
    for (const stream of [child.stdout, child.stderr]) {
      // PHP's server puts the time in front of what a script logs.
      createInterface({ input: stream }).on('line', (line) => {
        const event = /(?:^|\] )(\{.*\})$/.exec(line);
        if (event) receiver.events.push(JSON.parse(event[1]));
      });
    }
    receiver.child = child;
    await eventually(`${program} listens`, () => fetch(receiver.url).then((answer) => answer.text()).then(() => true), { within: 2 * PATIENCE });
    return receiver;
  }

  of(channel) {
    return this.events.filter((event) => event.channel === channel);
  }
}

const python = () => [here('.venv/bin/python'), '-B', join(PLACE, 'receiver.py')];

let broker, receivers;

before(async () => {
  mkdirSync(PLACE, { recursive: true });
  const [node, php] = [write('receiver.mjs', example('Node')), write('receiver.php', example('PHP'))];
  write('receiver.py', example('Python'));
  write('api.php', `<?php\n${example('Laravel')}`);
  receivers = {
    node: await Receiver.start('/', () => [process.execPath, node]),
    python: await Receiver.start('/', python),
    php: await Receiver.start('/', (port) => ['php', '-S', `127.0.0.1:${port}`, php]),
    laravel: await Receiver.start('/api/webhook', (port) => ['php', '-S', `127.0.0.1:${port}`, here('support/laravel.php')]),
    batched: await Receiver.start('/', () => [process.execPath, node]),
  };
  const webhooks = Object.entries(receivers).map(([name, { url }]) => ({ name, url, ...(name === 'batched' && { batch: true, batch_window: '300ms' }) }));
  broker = await Broker.start({ webhooks: { delay: '200ms' }, apps: [{ ...APP, webhooks }] });
});

after(async () => {
  await broker.stop();
  for (const { child } of Object.values(receivers)) child.kill();
});

suite('webhooks', () => {
  test('every receiver of the page takes every kind, in the order of its channel', async (t) => {
    const raw = await RawSocket.established(t, broker);
    const data = 'Zoë 🎉 "<b>&\'</b>\\/\u0000';
    await raw.authorised(serverSdk(broker, APP), 'presence-room', { user_id: 'zoë/1', user_info: {} });
    raw.send({ event: 'client-typing', channel: 'presence-room', data });
    await raw.drained();
    raw.send({ event: 'pusher:unsubscribe', data: { channel: 'presence-room' } });
    const expected = [
      { name: 'channel_occupied', channel: 'presence-room' },
      { name: 'member_added', channel: 'presence-room', user_id: 'zoë/1' },
      { name: 'client_event', channel: 'presence-room', event: 'client-typing', data, socket_id: raw.id, user_id: 'zoë/1' },
      { name: 'member_removed', channel: 'presence-room', user_id: 'zoë/1' },
      { name: 'channel_vacated', channel: 'presence-room' },
    ];
    for (const [name, receiver] of Object.entries(receivers)) {
      await eventuallyEqual(`${name} has all`, () => receiver.of('presence-room'), expected);
    }
  });

  test('a receiver refuses what somebody else has signed, and what was changed on the way', async () => {
    const body = JSON.stringify({ time_ms: Date.now(), events: [{ name: 'channel_occupied', channel: 'forged' }] });
    const sign = (secret, text) => createHmac('sha256', secret).update(text).digest('hex');
    for (const [name, { url }] of Object.entries(receivers)) {
      const post = async (signature) => {
        const headers = { 'Content-Type': 'application/json', 'X-Pusher-Key': APP.key, 'X-Pusher-Signature': signature };
        const answer = await fetch(url, { method: 'POST', headers, body });
        await answer.text();
        return answer.status;
      };
      assert.deepEqual([await post(sign('another secret', body)), await post(sign(APP.secret, `${body} `)), await post('')], [401, 401, 401], name);
      assert.equal(await post(sign(APP.secret, body)), 204, name);
      await eventually(`${name} takes what is right`, () => receivers[name].of('forged').length === 1);
    }
  });

  test('what happened while a receiver was down arrives when it is back', async (t) => {
    const { child, url } = receivers.python;
    child.kill('SIGKILL');
    await once(child, 'close');
    const pusher = serverSdk(broker, APP);
    const raw = await RawSocket.established(t, broker);
    for (const n of [1, 2, 3]) await raw.subscribe(`down-${n}`);
    await eventually('the others have them', () => ['node', 'php', 'laravel'].every((name) => receivers[name].of('down-3').length === 1));
    assert.equal((await pusher.get({ path: '/webhooks' })).status, 200);
    const owed = async () => (await (await pusher.get({ path: '/webhooks' })).json()).webhooks.find(({ endpoint }) => endpoint === 'python');
    assert.ok((await owed()).lag > 0);
    receivers.python = await Receiver.start('/', python, new URL(url).port);
    for (const n of [1, 2, 3]) {
      const expected = [{ name: 'channel_occupied', channel: `down-${n}` }];
      await eventuallyEqual(`down-${n} arrives`, () => receivers.python.of(`down-${n}`), expected, { within: 3 * PATIENCE });
    }
    await eventually('nothing is owed', async () => (await owed()).lag === 0);
  });
});
