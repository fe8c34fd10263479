// The real binary as a child process, on a free port, with a configuration of its own.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { PATIENCE, eventually } from './waiting.mjs';

const BINARY = process.env.HOLDLINE_BIN ?? fileURLToPath(new URL('../../../target/debug/holdline', import.meta.url));

/** The application that most tests use. */
export const APP = { id: 'app-id', key: 'app-key', secret: 'app-secret', client_events: true };

/** Another application with its own credentials and the given settings. */
export const app = (name, settings = {}) => ({ id: `${name}-id`, key: `${name}-key`, secret: `${name}-secret`, client_events: true, ...settings });

// A failed test must leave neither a process nor a directory behind.
const started = new Set();
const directories = new Set();
process.once('exit', () => {
  for (const child of started) child.kill('SIGKILL');
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

export class Broker {
  #child;

  /** Starts a broker. `config` holds `apps` and any other section, in the names of the configuration file; or it is the text of one. */
  static async start(config = {}) {
    const broker = new Broker();
    broker.directory = mkdtempSync(join(tmpdir(), 'holdline-'));
    directories.add(broker.directory);
    writeFileSync(join(broker.directory, 'holdline.toml'), typeof config === 'string' ? config : toml(config));
    await broker.#launch(0);
    return broker;
  }

  /** A broker that ends with the test. */
  static async during(t, config) {
    const broker = await Broker.start(config);
    t.after(() => broker.stop());
    return broker;
  }

  async #launch(port) {
    const args = ['--config', join(this.directory, 'holdline.toml'), '--port', String(port)];
    const { PATH, HOME } = process.env;
    this.lines = [];
    const child = spawn(BINARY, args, { cwd: this.directory, env: { PATH, HOME }, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    this.exited = once(child, 'close').then(([code, signal]) => ({ code, signal }));
    this.ended = false;
    child.on('exit', () => {
      this.ended = true;
      started.delete(child);
    });
    started.add(child);
    createInterface({ input: child.stderr }).on('line', (line) => this.lines.push(line));

    const ended = this.exited.then(({ code }) => assert.fail(`${BINARY} ended at the start with ${code}:\n${this.lines.join('\n')}`));
    ended.catch(() => {});
    const said = () => this.messages().map((text) => /^Listening on (\S+):(\d+)$/.exec(text)).find(Boolean);
    const listening = await Promise.race([eventually('the broker listens', said, { within: 2 * PATIENCE }), ended]);
    this.host = listening[1];
    this.port = Number(listening[2]);
  }

  get pid() {
    return this.#child.pid;
  }

  get url() {
    return `http://${this.host}:${this.port}`;
  }

  /** The `message` of every log line so far. */
  messages() {
    return this.lines.map((line) => parsed(line)?.message ?? '');
  }

  signal(name) {
    this.#child.kill(name);
  }

  /**
   * Asks the broker to stop, and checks how it went: exit code 0, no panic, nothing but JSON in the log; and sooner than its own limit,
   * which ends a stop that hangs.
   */
  async stop({ within = 25_000 } = {}) {
    if (this.ended) return;
    const asked = Date.now();
    this.signal('SIGTERM');
    const killer = setTimeout(() => this.signal('SIGKILL'), within);
    const { code, signal } = await this.exited;
    clearTimeout(killer);
    this.#checkLog();
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, 'a stop on SIGTERM is clean');
    return { took: Date.now() - asked };
  }

  /** Ends the process as a crash does. */
  async kill() {
    this.signal('SIGKILL');
    await this.exited;
    this.#checkForPanics();
  }

  /** Starts the same configuration again on the same port. */
  async startAgain() {
    await this.#launch(this.port);
  }

  #checkForPanics() {
    const panics = this.lines.filter((line) => line.includes('panicked'));
    assert.deepEqual(panics, [], 'the broker does not panic');
  }

  #checkLog() {
    this.#checkForPanics();
    const strange = this.lines.filter((line) => parsed(line) === null);
    assert.deepEqual(strange, [], 'every line of the log is one JSON object');
  }

}

function parsed(line) {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

function toml({ apps = [APP], drain = {}, listeners = [], ...sections }) {
  const all = { drain: { grace: '10s', spread: '100ms', ...drain }, ...sections };
  const lines = Object.entries(all).flatMap(([name, values]) => [`[${name}]`, ...pairs(values)]);
  for (const { limits, holds = [], webhooks = [], ...settings } of apps) {
    lines.push('[[apps]]', ...pairs(settings));
    if (limits) lines.push('[apps.limits]', ...pairs(limits));
    for (const rule of holds) lines.push('[[apps.holds]]', ...pairs(rule));
    for (const endpoint of webhooks) lines.push('[[apps.webhooks]]', ...pairs(endpoint));
  }
  for (const listener of listeners) lines.push('[[listeners]]', ...pairs(listener));
  return `${lines.join('\n')}\n`;
}

const pairs = (values) => Object.entries(values).map(([key, value]) => `${key} = ${render(value)}`);

function render(value) {
  if (Array.isArray(value)) return `[${value.map(render).join(', ')}]`;
  if (typeof value === 'object') return `{ ${pairs(value).join(', ')} }`;
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
