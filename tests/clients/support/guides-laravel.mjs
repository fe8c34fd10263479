// PHP of the guides, in as much of Laravel as they touch: see guides-laravel.php.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from './ports.mjs';
import { eventually } from './waiting.mjs';

const LARAVEL = fileURLToPath(new URL('guides-laravel.php', import.meta.url));

function written(directory, block, index) {
  const lint = spawnSync('php', ['-l'], { input: block.text, encoding: 'utf8' });
  assert.equal(lint.status, 0, `${block.place}: ${lint.stdout}${lint.stderr}`);
  const path = join(directory, `${index}.php`);
  writeFileSync(path, block.text.startsWith('<?php') ? block.text : `<?php\n${block.text}`);
  return path;
}

/** One request to the routes of an application that has these files besides; what it broadcast. */
export function php(place, { files, routes, request: [method, path] }) {
  const directory = join(place, `php-${Math.random().toString(36).slice(2)}`);
  mkdirSync(directory);
  const env = {
    ...process.env,
    GUIDE_FILES: JSON.stringify([...files, routes].map((block, index) => written(directory, block, index))),
    GUIDE_REQUEST: JSON.stringify([method, path]),
  };
  const { status, stdout, stderr } = spawnSync('php', [LARAVEL], { env, encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
  return JSON.parse(stdout);
}

/** The application in a process of its own, on SQLite, with these files, and these pages beside it. */
export async function serve(t, place, { files, port, env = {}, pages = {} }) {
  const directory = join(place, `app-${port}`);
  const root = join(directory, 'public');
  mkdirSync(join(root, 'vendor'), { recursive: true });
  for (const [path, text] of Object.entries(pages)) writeFileSync(join(root, path), text);
  const paths = files.map((block, index) => written(directory, block, index));
  const variables = { ...process.env, ...env, GUIDE_FILES: JSON.stringify(paths), GUIDE_DATABASE: join(directory, 'database.sqlite') };
  const child = spawn('php', ['-S', `127.0.0.1:${port}`, '-t', root, LARAVEL], { env: variables, stdio: ['ignore', 'ignore', 'pipe'] });
  const application = { url: `http://127.0.0.1:${port}`, log: '' };
  child.stderr.on('data', (text) => (application.log += text));
  t.after(() => child.kill('SIGKILL'));
  process.once('exit', () => child.kill('SIGKILL'));
  await eventually('PHP listens', () => fetch(application.url).then((answer) => answer.text()).then(() => true));
  return application;
}
