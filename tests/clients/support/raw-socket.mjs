// A WebSocket that shows every frame as it came, for what a client library hides.
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { APP } from './broker.mjs';
import { eventually } from './waiting.mjs';

export class RawSocket {
  frames = [];
  closed = null;

  /** Opens `/app/{key}` and gives back the socket with whatever comes; `established` waits for the handshake. */
  static async open(t, broker, { key = APP.key, prefix = '', query = 'protocol=7&client=js&version=8.6.0&flash=false', origin, ...options } = {}) {
    const raw = new RawSocket();
    raw.socket = new WebSocket(`ws://127.0.0.1:${broker.port}${prefix}/app/${key}?${query}`, { origin, perMessageDeflate: false, ...options });
    raw.socket.on('message', (data, binary) => raw.frames.push(binary ? { binary: data } : JSON.parse(data.toString())));
    raw.socket.on('close', (code, reason) => (raw.closed = { code, reason: reason.toString() }));
    raw.socket.on('error', (error) => (raw.error = error));
    t.after(() => raw.socket.terminate());
    await eventually('the upgrade is answered', () => {
      if (raw.error) throw raw.error;
      return raw.socket.readyState !== WebSocket.CONNECTING;
    });
    return raw;
  }

  static async established(t, broker, options) {
    const raw = await RawSocket.open(t, broker, options);
    const hello = await raw.frame('pusher:connection_established');
    raw.id = JSON.parse(hello.data).socket_id;
    return raw;
  }

  send(frame) {
    this.socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
  }

  /** The next frame of this name; it and all before it are taken away. */
  async frame(event) {
    const at = await eventually(`${event} after ${JSON.stringify(this.frames).slice(0, 300)}`, () => {
      const index = this.frames.findIndex((frame) => frame.event === event);
      return index < 0 ? false : { index };
    });
    return this.frames.splice(0, at.index + 1).at(-1);
  }

  /** Takes the frames that have come up to the answer to a ping: whatever was sent to us before is among them. */
  async drained() {
    this.send({ event: 'pusher:ping', data: {} });
    await eventually('pong', () => this.frames.some((frame) => frame.event === 'pusher:pong'));
    return this.frames.splice(0).filter((frame) => frame.event !== 'pusher:pong');
  }

  /** Subscribes, and gives back the answer of the broker. */
  async subscribe(channel, authorisation = { auth: '' }) {
    this.send({ event: 'pusher:subscribe', data: { ...authorisation, channel } });
    return this.frame('pusher_internal:subscription_succeeded');
  }

  /** Subscribes with a signature of the server SDK. */
  async authorised(sdk, channel, member) {
    const { auth, channel_data } = sdk.authorizeChannel(this.id, channel, member);
    return this.subscribe(channel, { auth, channel_data });
  }

  async signedIn(sdk, user) {
    this.send({ event: 'pusher:signin', data: sdk.authenticateUser(this.id, user) });
    return this.frame('pusher:signin_success');
  }

  /** Expects the end of the connection: the error frame and the close with the same code and text. */
  async refusal(code, message) {
    const frame = await this.frame('pusher:error');
    assert.deepEqual(frame.data, { code, message });
    await eventually('the close', () => this.closed);
    assert.deepEqual(this.closed, { code, reason: message });
  }
}
