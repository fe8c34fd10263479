// nginx with config/deploy/nginx.conf, its addresses and files replaced by the test's.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { eventually } from './waiting.mjs';

const SHIPPED = new URL('../../../config/deploy/nginx.conf', import.meta.url);

/** Starts it in front of `upstream`, an address as nginx writes it; ends it with the test. */
export async function nginx(t, certs, upstream) {
  const directory = mkdtempSync(join(tmpdir(), 'holdline-nginx-'));
  const port = await freePort();
  let shipped = readFileSync(SHIPPED, 'utf8');
  for (const [from, to] of [
    ['listen 443 ssl', `listen 127.0.0.1:${port} ssl`],
    ['server 127.0.0.1:6001', `server ${upstream}`],
    ['/etc/ssl/certs/shop.example.pem', certs.path('tls.pem')],
    ['/etc/ssl/private/shop.example.key', certs.path('tls.key')],
  ]) {
    assert.ok(shipped.includes(from), from);
    shipped = shipped.replace(from, to);
  }
  writeFileSync(join(directory, 'holdline.conf'), shipped);
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${kind};`);
  writeFileSync(
    join(directory, 'nginx.conf'),
    `${process.getuid() === 0 ? 'user root;' : ''} daemon off; worker_processes 1; pid nginx.pid; error_log error.log notice;
     events { worker_connections 1024; }
     http { access_log access.log; ${paths.join(' ')} include holdline.conf; }`,
  );
  const child = spawn('/usr/sbin/nginx', ['-p', directory, '-e', 'error.log', '-c', join(directory, 'nginx.conf')], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGTERM');
    await exited;
    rmSync(directory, { recursive: true, force: true });
  });
  await eventually('nginx listens', async () => {
    assert.equal(child.exitCode, null, readFileSync(join(directory, 'error.log'), 'utf8'));
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.destroy();
    return true;
  });
  return { port };
}
