// What the broker serves is what the sources say: a build from scratch gives the committed files, byte for byte.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const DESK = fileURLToPath(new URL('../../clients/order-desk/', import.meta.url));
const SOURCES = ['package.json', 'package-lock.json', 'tsconfig.json', 'build.mjs', 'src'];
const BUDGET = { 'desk.js': 110_000, 'desk.css': 24_000, 'index.html': 10_000, 'licences.txt': 4_000 };

/** What the desk takes from its neighbour: types alone. */
const WIRE = 'js/src/wire.ts';

let root, copy;

before(async () => {
  root = mkdtempSync(join(tmpdir(), 'order-desk-'));
  copy = join(root, 'order-desk');
  cpSync(join(DESK, '..', WIRE), join(root, WIRE), { recursive: true });
  for (const source of SOURCES) cpSync(join(DESK, source), join(copy, source), { recursive: true });
  await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: copy });
});

after(() => rmSync(root, { recursive: true, force: true }));

test('the committed bundle is the one that its sources make', async () => {
  await run('npm', ['run', 'build'], { cwd: copy });
  const names = Object.keys(BUDGET).sort();
  assert.deepEqual(readdirSync(join(copy, 'dist')).sort(), names);
  assert.deepEqual(readdirSync(join(DESK, 'dist')).sort(), names);
  for (const name of names) {
    const [built, committed] = [copy, DESK].map((directory) => readFileSync(join(directory, 'dist', name)));
    assert.ok(built.equals(committed), `dist/${name} is not what the sources make: run npm ci && npm run build in clients/order-desk`);
    assert.ok(built.length <= BUDGET[name], `dist/${name} has grown to ${built.length} bytes`);
  }
});

test('the sources have the types they say', async () => {
  await run('npm', ['run', 'check'], { cwd: copy });
});

test('every package is pinned, and none to the address of a registry', () => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(DESK, 'package.json')));
  assert.equal(dependencies, undefined);
  for (const [name, version] of Object.entries(devDependencies)) assert.match(version, /^\d+\.\d+\.\d+$/, name);
  const { packages } = JSON.parse(readFileSync(join(DESK, 'package-lock.json')));
  for (const [path, { resolved, integrity }] of Object.entries(packages)) {
    assert.equal(resolved, undefined, path);
    assert.ok(path === '' || integrity?.startsWith('sha512-'), path);
  }
});
