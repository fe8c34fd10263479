// config/deploy/compose.yaml: its keys, and that what it names is there and fits the other files.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';

const DEPLOY = fileURLToPath(new URL('../../config/deploy', import.meta.url));
const read = (name) => readFileSync(join(DEPLOY, name), 'utf8');
const compose = parse(read('compose.yaml'), { strict: true, uniqueKeys: true });

// Of the Compose specification: what a service may have, as far as it is used here. A misspelt key would be left unread by nobody but us.
const SERVICE = ['build', 'cap_drop', 'depends_on', 'env_file', 'environment', 'healthcheck', 'image', 'ports', 'read_only', 'restart', 'security_opt',
  'stop_grace_period', 'ulimits', 'volumes'];
const HEALTH = ['test', 'interval', 'timeout', 'retries', 'start_period'];
const seconds = (text) => Number(/^(\d+)s$/.exec(text)[1]);

suite('the compose file', () => {
  test('has keys that Compose knows', () => {
    assert.deepEqual(Object.keys(compose).sort(), ['services', 'volumes']);
    for (const [name, service] of Object.entries(compose.services)) {
      assert.deepEqual(Object.keys(service).filter((key) => !SERVICE.includes(key)), [], name);
      assert.deepEqual(Object.keys(service.healthcheck ?? {}).filter((key) => !HEALTH.includes(key)), [], name);
      for (const other of Object.keys(service.depends_on ?? {})) {
        assert.equal(service.depends_on[other].condition, 'service_healthy');
        assert.ok(compose.services[other].healthcheck, `${other} can be healthy`);
      }
      for (const volume of service.volumes) {
        const [from] = volume.split(':');
        assert.ok(from.startsWith('.') ? existsSync(join(DEPLOY, from)) : from in compose.volumes, volume);
      }
    }
  });

  test('fits the image, the configuration and the example of the environment', () => {
    const { holdline, postgres } = compose.services;
    const [dockerfile, toml, env] = ['Dockerfile', 'holdline.toml', 'example.env'].map(read);
    const context = resolve(DEPLOY, holdline.build.context);
    assert.ok(existsSync(join(context, 'Cargo.toml')) && existsSync(join(context, '.dockerignore')));
    assert.equal(join(context, holdline.build.dockerfile), join(DEPLOY, 'Dockerfile'));
    const of = (pattern) => pattern.exec(dockerfile)[1];
    assert.ok(holdline.volumes.includes(`holdline:${of(/^VOLUME (.*)$/m)}`));
    assert.ok(holdline.volumes.includes(`./holdline.toml:${of(/^ENV HOLDLINE_CONFIG=(.*)$/m)}:ro`));
    assert.equal(holdline.ports[0].split(':').at(-1), of(/^EXPOSE (.*)$/m));
    assert.ok(seconds(holdline.stop_grace_period) > seconds(/^grace = "(.*)"$/m.exec(toml)[1]) + 5, 'a stop is not cut off');
    // Every variable that is asked for stands in the example, empty: whoever forgets it is told.
    const asked = [...read('compose.yaml').matchAll(/\$\{(\w+)(:\?[^}]+)?\}/g)];
    assert.ok(asked.length > 2);
    for (const [text, name, message] of asked) {
      assert.match(env, new RegExp(`^${name}=$`, 'm'), text);
      assert.ok(message?.includes(name), `${text} says what is missing`);
    }
    const url = new URL(holdline.environment.DATABASE_URL.replace(/\$\{.*\}/, 'password'));
    assert.deepEqual([url.username, url.hostname, url.pathname], [postgres.environment.POSTGRES_USER, 'postgres', `/${postgres.environment.POSTGRES_DB}`]);
    assert.equal(postgres.ports, undefined, 'the database is reached by the broker alone');
    assert.ok(holdline.read_only && holdline.cap_drop.includes('ALL') && holdline.ports.every((port) => port.startsWith('127.0.0.1:')));
  });

  test('the page about it shows the commands of the files themselves', () => {
    const page = readFileSync(join(DEPLOY, '../../src/docs/deploy.md'), 'utf8');
    for (const name of ['compose.yaml', 'holdline.service', 'Dockerfile']) {
      const commands = read(name).split('\n').filter((line) => /^# {3}\S/.test(line) || /^# {5}--/.test(line)).map((line) => line.slice(4));
      assert.ok(commands.length >= 3, name);
      for (const command of commands) assert.ok(page.includes(command.trim()), `${name}: ${command}`);
    }
    for (const [, name] of page.matchAll(/^\| `([\w.-]+\.?\w*)` \| (?=[a-z])/gm)) {
      if (/\.|Dockerfile/.test(name)) assert.ok(existsSync(join(DEPLOY, name)), name);
    }
    assert.equal(dirname(DEPLOY).endsWith('config'), true);
  });
});
