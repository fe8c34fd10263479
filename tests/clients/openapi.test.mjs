// /openapi.json: valid OpenAPI, and every successful answer of the broker is what its schema says, with nothing in it that is never seen.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { before, suite, test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { APP, Broker } from './support/broker.mjs';
import { PATIENT } from './support/desk.mjs';
import { RawSocket } from './support/raw-socket.mjs';
import { serverSdk } from './support/server-sdk.mjs';
import { PATIENCE, eventually } from './support/waiting.mjs';

let document;
let ajv;
const answered = new Set();
const seen = new Set();

before(async () => {
  const broker = await Broker.start();
  document = await (await fetch(`${broker.url}/openapi.json`)).json();
  await broker.stop();
  // The document as one schema: what its parts are called stays as it is.
  ajv = addFormats(new Ajv2020.default({ strict: false, allErrors: true }));
  ajv.addSchema({ $id: 'holdline', components: document.components });
});

const operations = () =>
  Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item)
      .filter(([method]) => method !== 'parameters')
      .map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
  );

const inside = (schema) => JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"holdline#/'));

function conforms(schema, value, what) {
  const validate = ajv.compile(inside(schema));
  assert.ok(validate(value), `${what}: ${JSON.stringify(value)}: ${ajv.errorsText(validate.errors)}`);
}

const component = (name) => document.components.schemas[name];

/** Notes which described properties an answer has. */
function note(schema, value, at) {
  if (schema.$ref) {
    const name = schema.$ref.split('/').at(-1);
    return note(component(name), value, name);
  }
  if (Array.isArray(value)) return value.forEach((item) => note(schema.items, item, `${at}[]`));
  if (value === null || typeof value !== 'object') return;
  for (const [key, item] of Object.entries(value)) {
    const property = schema.properties?.[key] ?? schema.additionalProperties;
    if (schema.properties?.[key]) seen.add(`${at}.${key}`);
    if (typeof property === 'object') note(property, item, `${at}.${key}`);
  }
}

/** All properties of a schema, as `note` names them. */
function properties(schema, at) {
  const below = Object.entries(schema.properties ?? {}).flatMap(([key, property]) => [`${at}.${key}`, ...(property.$ref ? [] : properties(property, `${at}.${key}`))]);
  return [...below, ...(schema.items && !schema.items.$ref ? properties(schema.items, `${at}[]`) : [])];
}

/** A request, signed where the operation is, that must succeed as described; its JSON. */
async function call(broker, operationId, { path = {}, query = {}, body, app = APP } = {}) {
  const operation = operations().find((operation) => operation.operationId === operationId);
  assert.ok(operation, operationId);
  const names = [...operation.path.matchAll(/{(\w+)}/g)].map(([, name]) => name);
  const target = names.reduce((url, name) => url.replace(`{${name}}`, encodeURIComponent(path[name] ?? app.id)), operation.path);
  const declared = [...(document.paths[operation.path].parameters ?? []), ...(operation.parameters ?? [])].map((parameter) =>
    parameter.$ref ? document.components.parameters[parameter.$ref.split('/').at(-1)] : parameter,
  );
  for (const name of Object.keys(query)) {
    const parameter = declared.find((parameter) => parameter.in === 'query' && parameter.name === name);
    assert.ok(parameter, `${operationId} has a parameter ${name}`);
    conforms(parameter.schema, query[name], `${operationId} ${name}`);
  }
  if (body) conforms(operation.requestBody.content['application/json'].schema, body, `the body of ${operationId}`);
  const text = body && JSON.stringify(body);
  const signed = operation.security.length > 0;
  // The SDK signs as everybody does; its own query for a path is what is sent.
  const sdk = serverSdk(broker, app);
  const params = Object.fromEntries(Object.entries(query).map(([name, value]) => [name, String(value)]));
  const search = signed ? `?${sdk.createSignedQueryString({ method: operation.method, path: target, params, body: text })}` : '';
  const answer = await fetch(`${broker.url}${target}${search}`, { method: operation.method, body: text, headers: body && { 'content-type': 'application/json' } });
  const said = await answer.text();
  assert.equal(answer.status, 200, `${operationId}: ${said}`);
  answered.add(operationId);
  const content = operation.responses['200'].content ?? {};
  if (operation.method === 'HEAD') return assert.equal(said, '');
  const kind = answer.headers.get('content-type').split(';')[0];
  assert.deepEqual(Object.keys(content), [kind], operationId);
  const value = kind === 'application/json' ? JSON.parse(said) : said;
  conforms(content[kind].schema, value, operationId);
  note(content[kind].schema, value, operationId);
  return value;
}

suite('the description of the HTTP API', { concurrency: false }, () => {
  test('is valid OpenAPI 3.1', async () => {
    const validator = new Validator();
    const result = await validator.validate(structuredClone(document));
    assert.ok(result.valid, JSON.stringify(result.errors));
    assert.equal(validator.version, '3.1');
    const wrong = structuredClone(document);
    delete wrong.paths['/up'].get.responses;
    wrong.paths['/up'].get.answers = {};
    assert.equal((await new Validator().validate(wrong)).valid, false, 'the validator notices');
    const ids = operations().map(({ operationId }) => operationId);
    assert.equal(new Set(ids).size, ids.length);
    for (const [, reference] of JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)) {
      assert.ok(reference.split('/').reduce((part, name) => part?.[name], document), reference);
    }
    const used = new Set([...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/([^"]+)"/g)].map(([, name]) => name));
    const made = Object.entries(document.components).flatMap(([kind, parts]) => Object.keys(parts).map((name) => `${kind}/${name}`));
    assert.deepEqual(made.filter((name) => !used.has(name)), ['securitySchemes/signature']);
  });

  test('events, channels, users and sockets', async (t) => {
    const broker = await Broker.during(t);
    for (const id of ['root', 'up', 'ready', 'readyForHolds', 'acceptTraffic', 'openapi']) {
      await call(broker, id);
      await call(broker, `${id}Head`);
    }
    const raw = await RawSocket.established(t, broker);
    const member = serverSdk(broker).authorizeChannel(raw.id, 'presence-room', { user_id: '7' });
    await raw.subscribe('presence-room', member);
    await raw.subscribe('cache-news');
    const event = { name: 'e', data: { id: 42 }, channels: ['presence-room'], channel: 'cache-news', info: 'user_count,subscription_count' };
    await call(broker, 'publish', { body: event });
    await call(broker, 'publish', { body: { name: 'e', data: 'text', channel: 'cache-news', socket_id: raw.id } });
    await call(broker, 'publishBatch', { body: { batch: [{ name: 'e', data: '1', channel: 'cache-news', info: 'subscription_count' }] } });
    await call(broker, 'publishBatch', { body: { batch: [] } });
    const list = await call(broker, 'listChannels', { query: { filter_by_prefix: 'presence-', info: 'user_count,subscription_count' } });
    assert.deepEqual(list.channels, { 'presence-room': { user_count: 1, subscription_count: 1 } });
    await call(broker, 'showChannel', { path: { channel: 'presence-room' }, query: { info: 'user_count,subscription_count' } });
    await call(broker, 'showChannel', { path: { channel: 'cache-news' }, query: { info: 'cache' } });
    await call(broker, 'showChannel', { path: { channel: 'cache-empty' }, query: { info: 'cache' } });
    await call(broker, 'listMembers', { path: { channel: 'presence-room' } });
    await call(broker, 'countConnections');
    const second = await RawSocket.established(t, broker);
    const page = await call(broker, 'listSockets', { query: { limit: 1 } });
    assert.ok(page.next);
    await call(broker, 'listSockets', { query: { after: page.next } });
    await call(broker, 'showSocket', { path: { socket_id: second.id } });
    await call(broker, 'terminateUser', { path: { user_id: '7' } });
    await call(broker, 'terminateUserByKey', { path: { user_id: '7' } });
  });

  test('locks and the log', async (t) => {
    // The application for development holds orders; here with a grace that is still there when it is asked for.
    const broker = await Broker.during(t, PATIENT);
    const raw = await RawSocket.established(t, broker);
    const sdk = serverSdk(broker);
    for (const order of ['1', '2']) {
      const channel = `private-order.${order}`;
      await raw.subscribe(channel, sdk.authorizeChannel(raw.id, channel));
    }
    const away = await RawSocket.established(t, broker);
    const [channel, member] = ['private-order.3', JSON.stringify({ user_id: '7' })];
    const signature = sdk.config.token.sign(`${away.id}:${channel}:${member}`);
    await away.subscribe(channel, { auth: `${APP.key}:${signature}`, channel_data: member });
    away.socket.terminate();
    await eventually('a grace begins', async () => (await call(broker, 'listLocks', { query: { state: 'grace', principal: 'user:7' } })).locks.length === 1);
    const page = await call(broker, 'listLocks', { query: { limit: 1 } });
    assert.ok(page.next);
    await call(broker, 'listLocks', { query: { after: page.next } });
    const { locks: [lock] } = await call(broker, 'showResource', { path: { resource: 'order:1' } });
    await call(broker, 'releaseLock', { path: { fence: lock.fence } });
    await call(broker, 'listLocks', { query: { state: 'released', resource: 'order:1' } });
    const log = await call(broker, 'readLog', { query: { limit: 2 } });
    assert.equal(log.events.length, 2);
    await call(broker, 'readLog', { query: { after: log.next } });
  });

  test('webhooks and dead letters', async (t) => {
    const nobody = createServer((request, response) => response.writeHead(500).end()).listen(0, '127.0.0.1');
    await once(nobody, 'listening');
    t.after(() => nobody.close());
    const webhooks = [{ name: 'shop', url: `http://127.0.0.1:${nobody.address().port}/`, events: ['channel_occupied'], retry_for: '1s', order_for: '0s' }];
    const broker = await Broker.during(t, { apps: [{ ...APP, webhooks }], webhooks: { delay: '0s' } });
    const raw = await RawSocket.established(t, broker);
    for (const channel of ['a', 'b', 'c', 'd']) await raw.subscribe(channel);
    const dead = async () => (await call(broker, 'listDeadLetters', { query: { endpoint: 'shop' } })).dead;
    const letters = await eventually('four dead letters', async () => {
      const letters = await dead();
      return letters.length === 4 && letters;
    }, { within: 2 * PATIENCE });
    await call(broker, 'listWebhooks');
    const page = await call(broker, 'listDeadLetters', { query: { limit: 1 } });
    assert.equal(page.next, letters[0].id);
    await call(broker, 'listDeadLetters', { query: { after: page.next } });
    await call(broker, 'replayDeadLetter', { path: { id: letters[0].id } });
    await call(broker, 'dropDeadLetter', { path: { id: letters[1].id } });
    await call(broker, 'replayDeadLetters', { query: { endpoint: 'shop' } });
    await call(broker, 'dropDeadLetters', { query: { endpoint: 'shop' } });
  });

  test('everything that is described was answered, and every property was in some answer', () => {
    assert.deepEqual(operations().map(({ operationId }) => operationId).filter((id) => !answered.has(id)), []);
    const sent = new Set(['Event', 'Batch']);
    const described = Object.entries(document.components.schemas).filter(([name]) => !sent.has(name));
    assert.deepEqual(described.flatMap(([name, schema]) => properties(schema, name)).filter((name) => !seen.has(name)), []);
  });
});
