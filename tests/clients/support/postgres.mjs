// A PostgreSQL server of our own, on a free port, without anything that survives it.
import { execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { PATIENCE, eventually } from './waiting.mjs';

const DEBIAN = '/usr/lib/postgresql';

/** It does not run as root. */
function owner() {
  if (process.getuid() !== 0) return {};
  const number = (flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: number('-u'), gid: number('-g') };
}

export class Postgres {
  static async start() {
    const postgres = new Postgres();
    const version = readdirSync(DEBIAN).filter((name) => existsSync(join(DEBIAN, name, 'bin/postgres'))).sort((a, b) => a - b).pop();
    postgres.bin = join(DEBIAN, version, 'bin');
    postgres.directory = mkdtempSync(join(tmpdir(), 'holdline-pg-'));
    const as = { ...owner(), cwd: postgres.directory };
    if (as.uid) chownSync(postgres.directory, as.uid, as.gid);
    const data = join(postgres.directory, 'data');
    execFileSync(join(postgres.bin, 'initdb'), ['--no-sync', '-A', 'trust', '-U', 'postgres', '-E', 'UTF8', '-D', data], { ...as, stdio: 'ignore' });
    postgres.port = await freePort();
    const settings = ['fsync=off', 'listen_addresses=127.0.0.1', 'log_min_messages=panic'].flatMap((setting) => ['-c', setting]);
    postgres.server = spawn(join(postgres.bin, 'postgres'), ['-D', data, '-k', postgres.directory, '-p', String(postgres.port), ...settings], { ...as, stdio: 'ignore' });
    process.once('exit', () => postgres.server.kill('SIGKILL'));
    await eventually('PostgreSQL answers', () => postgres.sql('SELECT 1') === '1', { within: 4 * PATIENCE, every: 100 });
    return postgres;
  }

  /** What psql prints: a line per row. */
  sql(query, database = 'postgres') {
    const options = ['-h', '127.0.0.1', '-p', String(this.port), '-U', 'postgres', '-d', database, '-qAtX', '-v', 'ON_ERROR_STOP=1', '-c', query];
    return execFileSync(join(this.bin, 'psql'), options, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  }

  /** A database of its own; its URL. */
  database(name) {
    this.sql(`CREATE DATABASE ${name}`);
    return `postgres://postgres@127.0.0.1:${this.port}/${name}`;
  }

  async stop() {
    this.server.kill('SIGQUIT');
    await once(this.server, 'exit');
    rmSync(this.directory, { recursive: true, force: true });
  }
}
