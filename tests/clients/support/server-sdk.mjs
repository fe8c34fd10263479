// The server SDK of npm, pointed at a broker.
import assert from 'node:assert/strict';
import Pusher from 'pusher';
import { APP } from './broker.mjs';

export const MASTER_KEY = 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=';

export function serverSdk(broker, app = APP, options = {}) {
  const { id: appId, key, secret } = app;
  return new Pusher({ appId, key, secret, host: '127.0.0.1', port: broker.port, useTLS: false, encryptionMasterKeyBase64: MASTER_KEY, ...options });
}

/** The text of an answer, after checking that it is a 200 with a JSON body. */
export async function textOf(answer) {
  const response = await answer;
  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type'), /^application\/json/);
  return response.text();
}

export const jsonOf = async (answer) => JSON.parse(await textOf(answer));

/** Expects a refusal with this status and a one-line plain text that matches. */
export async function refused(answer, status, text) {
  const error = await Promise.resolve(answer).then(
    () => assert.fail(`accepted, but ${status} was expected`),
    (reason) => reason,
  );
  assert.equal(error.status, status, `${error.message}: ${error.body}`);
  const line = error.body.replace(/\n$/, '');
  assert.ok(line.length > 0 && !line.includes('\n'), `one line of text: ${JSON.stringify(error.body)}`);
  if (text !== undefined) assert.match(line, text);
  return line;
}
