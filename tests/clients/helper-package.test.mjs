// clients/js as a package: what is committed is what its sources make, what is published is what it should be, and strangers can compile it.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { blocks } from './support/guides.mjs';

const run = promisify(execFile);
const PACKAGE = fileURLToPath(new URL('../../clients/js/', import.meta.url));
const MODULES = fileURLToPath(new URL('node_modules/', import.meta.url));
const SOURCES = ['package.json', 'package-lock.json', 'tsconfig.json', 'README.md', 'LICENSE', 'src'];

let place, copy, packed;

before(async () => {
  place = mkdtempSync(join(tmpdir(), 'holdline-client-'));
  copy = join(place, 'source');
  mkdirSync(copy);
  for (const source of SOURCES) cpSync(join(PACKAGE, source), join(copy, source), { recursive: true });
  await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: copy });
  await run('npm', ['run', 'build'], { cwd: copy });
  [packed] = JSON.parse((await run('npm', ['pack', '--json', '--pack-destination', place], { cwd: copy })).stdout);
});

after(() => rmSync(place, { recursive: true, force: true }));

test('the committed build is the one that its sources make', () => {
  const names = readdirSync(join(copy, 'dist')).sort();
  assert.deepEqual(readdirSync(join(PACKAGE, 'dist')).sort(), names);
  for (const name of names) {
    const [built, committed] = [copy, PACKAGE].map((directory) => readFileSync(join(directory, 'dist', name), 'utf8'));
    assert.equal(committed, built, `dist/${name} is not what the sources make: run npm ci && npm run build in clients/js`);
  }
});

test('what is published: the build with its types, README and LICENSE, and nothing else; small, and without dependencies', () => {
  const modules = readdirSync(join(PACKAGE, 'src')).flatMap((name) => [`dist/${name.replace(/ts$/, 'd.ts')}`, `dist/${name.replace(/ts$/, 'js')}`]);
  assert.deepEqual(packed.files.map(({ path }) => path).sort(), [...modules, 'LICENSE', 'README.md', 'package.json'].sort());
  const manifest = JSON.parse(readFileSync(join(PACKAGE, 'package.json')));
  assert.deepEqual([manifest.dependencies, manifest.sideEffects, manifest.type], [undefined, false, 'module']);
  assert.deepEqual(manifest.peerDependenciesMeta, { react: { optional: true } });
  for (const file of Object.values(manifest.exports).flatMap((entry) => (typeof entry === 'string' ? [entry] : Object.values(entry)))) {
    assert.ok(statSync(join(PACKAGE, file)).isFile(), file);
  }
  const code = modules.filter((name) => name.endsWith('.js')).map((name) => statSync(join(PACKAGE, name)).size);
  assert.ok(code.reduce((sum, size) => sum + size) < 32_000, 'it has grown');
  const { packages } = JSON.parse(readFileSync(join(PACKAGE, 'package-lock.json')));
  for (const [path, { resolved, integrity }] of Object.entries(packages)) {
    assert.equal(resolved, undefined, path);
    assert.ok(path === '' || integrity?.startsWith('sha512-'), path);
  }
});

/** A stranger's program, with the package as it is published. */
function consumer(name) {
  const app = join(place, name);
  const modules = join(app, 'node_modules');
  mkdirSync(join(modules, '@holdline'), { recursive: true });
  execFileSync('tar', ['-xzf', join(place, packed.filename), '-C', join(modules, '@holdline')]);
  renameSync(join(modules, '@holdline/package'), join(modules, '@holdline/client'));
  mkdirSync(join(modules, '@types'));
  for (const name of ['pusher-js', 'laravel-echo', 'react']) symlinkSync(join(MODULES, name), join(modules, name));
  for (const name of ['@types/react', 'csstype']) symlinkSync(join(copy, 'node_modules', name), join(modules, name));
  writeFileSync(join(app, 'package.json'), '{ "type": "module" }');
  return app;
}

async function compile(app, files, options) {
  const strict = { strict: true, exactOptionalPropertyTypes: true, types: [], noEmit: true, skipLibCheck: true };
  const compilerOptions = { target: 'ES2022', lib: ['ES2022', 'DOM', 'ESNext.Disposable'], ...strict, ...options };
  writeFileSync(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  await run(process.execPath, [join(copy, 'node_modules/typescript/bin/tsc'), '-p', app]).catch(({ stdout }) => assert.fail(stdout));
}

const CONSUMER = `
import Pusher from 'pusher-js';
import Encrypting from 'pusher-js/with-encryption';
import Echo from 'laravel-echo';
import { createElement } from 'react';
import { hold, sendWithReceipt, type Hold, type Snapshot } from '@holdline/client';
import { HoldlineProvider, useHold } from '@holdline/client/react';

const pusher = new Pusher('key', { cluster: '' });
const echo = new Echo<'pusher'>({ broadcaster: 'pusher', key: 'key', client: pusher });
const reverb = new Echo({ broadcaster: 'reverb', key: 'key', client: pusher });
const other: Hold = hold(new Encrypting('key', { cluster: '' }), 'private-order.1');
hold(reverb, 'order.1');
export const order = hold(echo, 'order.42', { retry: true });
const off: () => void = order.onHeld(({ fence, holder }) => console.log(fence.toFixed(), holder.length));
order.onLost(({ fence, cause }) => console.log(fence.toFixed(), cause.length));
order.onRefused(({ type, holder }) => console.log(type.length, holder?.length));
order.onState((now: Snapshot, before) => console.log(now.state === 'held', before.fence?.toFixed()));
off();

// @ts-expect-error there is no such state
export const wrong = order.state === 'locked';
// @ts-expect-error a fence may not be there
order.fence.toFixed();
// @ts-expect-error it is read only
order.snapshot.state = 'held';
// @ts-expect-error a channel is needed
hold(pusher);
// @ts-expect-error an Echo without Pusher cannot
hold(new Echo({ broadcaster: 'null' }), 'order.1');
// @ts-expect-error there is no such option
hold(pusher, 'private-order.1', { again: true });

export const receipt: Promise<'ok' | 'dup'> = sendWithReceipt(echo, 'private-chat', 'client-said', { text: 'hello' }, { id: 7 });

export async function save(): Promise<void> {
  await using mine = hold(pusher, 'private-order.1');
  console.log(mine.state, other.channel);
}

export function Order({ id }: { id: number | null }) {
  const { state, fence, retry } = useHold(id === null ? null : \`private-order.\${id}\`, { onLost: ({ cause }) => console.log(cause) });
  return createElement('button', { onClick: retry }, state, fence);
}

export const Page = () => createElement(HoldlineProvider, { client: echo }, createElement(Order, { id: 1 }));
`;

// Under Node's own rules the types of pusher-js say that its class is the default of the default.
const IN_NODE = CONSUMER.replace("import Pusher from 'pusher-js';", "import PusherJs from 'pusher-js';\nconst Pusher = PusherJs.default;").replace(
  "import Encrypting from 'pusher-js/with-encryption';", 'const Encrypting = Pusher;');

const README = `
import Echo from 'laravel-echo';
declare const laravel: Echo<'pusher'>;
declare function toast(text: string): void;
declare function Form(props: { order: number; fence: number | undefined; disabled: boolean }): null;
`;

test('what the README shows of React and of receipts compiles', async () => {
  const app = consumer('readme');
  const [, receipt] = blocks('clients/js/README.md').filter(({ language }) => language === 'js');
  const [react] = blocks('clients/js/README.md').filter(({ language }) => language === 'jsx');
  writeFileSync(join(app, 'react.tsx'), README + react.text.replace('\n<HoldlineProvider', '\nexport const page = <HoldlineProvider').replace('{Echo}', '{laravel}'));
  writeFileSync(join(app, 'receipt.ts'), receipt.text.replace('Echo,', "{} as import('laravel-echo').default<'pusher'>,"));
  await compile(app, ['react.tsx', 'receipt.ts'], { module: 'ESNext', moduleResolution: 'bundler', jsx: 'react-jsx', noImplicitAny: false });
});

for (const [resolution, source, options] of [
  ['bundler', CONSUMER, { module: 'ESNext', moduleResolution: 'bundler' }],
  ['node', IN_NODE, { module: 'NodeNext' }],
]) {
  test(`what is published has types that a stranger's program compiles with, checked strictly: ${resolution}`, async () => {
    const app = consumer(resolution);
    writeFileSync(join(app, 'app.ts'), source);
    await compile(app, ['app.ts'], options);
  });
}
