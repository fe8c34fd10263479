// Laravel Echo over both broadcasters that people use with a Pusher-compatible broker.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import Echo from 'laravel-echo';
import { AuthServer } from './support/auth-server.mjs';
import { APP, Broker } from './support/broker.mjs';
import { Pusher, settled } from './support/pusher-js.mjs';
import { jsonOf, serverSdk } from './support/server-sdk.mjs';
import { eventually, eventuallyEqual, next } from './support/waiting.mjs';

let broker, sdk, auth;

before(async () => {
  broker = await Broker.start();
  sdk = serverSdk(broker);
  auth = await AuthServer.start(sdk);
});

after(async () => {
  await auth.stop();
  await broker.stop();
});

/** Echo with the options of the stock stubs; only the address of the auth endpoint has to be whole outside a page. */
function echo(t, broadcaster, user, { wish, ...options } = {}) {
  const instance = new Echo({
    broadcaster,
    Pusher,
    key: APP.key,
    ...(broadcaster === 'pusher' && { cluster: 'mt1' }),
    wsHost: '127.0.0.1',
    wsPort: broker.port,
    wssPort: broker.port,
    forceTLS: false,
    enabledTransports: ['ws', 'wss'],
    disableStats: true,
    authEndpoint: `${auth.url}/broadcasting/auth`,
    userAuthentication: { endpoint: `${auth.url}/broadcasting/user-auth`, headers: {} },
    auth: { headers: wish ? { 'X-Wish': wish } : {} },
    bearerToken: user,
    ...options,
  });
  t.after(() => instance.disconnect());
  return instance;
}

async function subscribed(channel) {
  let done = false;
  channel.subscribed(() => (done = true));
  await eventually(`${channel.name} is subscribed`, () => done);
}

const fence = (...instances) => settled(...instances.map(({ connector }) => connector.pusher));

/** What `listen` (or any method that takes a callback last) hands over, in order. */
function heard(channel, method, ...args) {
  const seen = [];
  channel[method](...args, (data) => seen.push(data));
  return seen;
}

for (const broadcaster of ['pusher', 'reverb']) {
  suite(`broadcaster ${broadcaster}`, () => {
    const open = (t, user, options) => echo(t, broadcaster, user, options);

    test('listen: the namespace, another namespace, and literal names', async (t) => {
      const page = open(t, '42');
      const channel = page.channel('orders');
      const seen = {
        class: heard(channel, 'listen', 'OrderShipped'),
        nested: heard(channel, 'listen', 'Orders.Paid'),
        dot: heard(channel, 'listen', '.order.shipped'),
        slash: heard(channel, 'listen', '\\Other\\Event'),
        all: [],
      };
      channel.listenToAll((event, data) => seen.all.push([event, data]));
      await subscribed(channel);
      assert.equal(page.connectionStatus(), 'connected');
      await sdk.trigger('orders', 'App\\Events\\OrderShipped', { id: 1 });
      await sdk.trigger('orders', 'App\\Events\\Orders\\Paid', { id: 2 });
      await sdk.trigger('orders', 'order.shipped', { id: 3 });
      await sdk.trigger('orders', 'Other\\Event', { id: 4 });
      await fence(page);
      assert.deepEqual(seen, {
        class: [{ id: 1 }],
        nested: [{ id: 2 }],
        dot: [{ id: 3 }],
        slash: [{ id: 4 }],
        all: [['OrderShipped', { id: 1 }], ['Orders\\Paid', { id: 2 }], ['.order.shipped', { id: 3 }], ['.Other\\Event', { id: 4 }]],
      });
      channel.stopListening('OrderShipped');
      await sdk.trigger('orders', 'App\\Events\\OrderShipped', { id: 5 });
      await fence(page);
      assert.deepEqual(seen.class, [{ id: 1 }]);
    });

    test('private: the bearer token goes to the endpoint, toOthers leaves out the sender', async (t) => {
      auth.requests.length = 0;
      const [page, other] = [open(t, '42'), open(t, '7')];
      const seen = [page, other].map((each) => heard(each.private('orders.1'), 'listen', 'OrderShipped'));
      await Promise.all([page, other].map((each) => subscribed(each.private('orders.1'))));
      const asked = auth.requests.map(({ headers, form }) => [headers.authorization, form.channel_name]).sort();
      assert.deepEqual(asked, [['Bearer 42', 'private-orders.1'], ['Bearer 7', 'private-orders.1']]);
      await sdk.trigger('private-orders.1', 'App\\Events\\OrderShipped', { id: 1 }, { socket_id: page.socketId() });
      await fence(page, other);
      assert.deepEqual(seen, [[], [{ id: 1 }]]);
    });

    test('whisper reaches the others only', async (t) => {
      const [page, other] = [open(t, '42'), open(t, '7')];
      const [mine, theirs] = [page.private('chat'), other.private('chat')];
      const seen = [mine, theirs].map((channel) => heard(channel, 'listenForWhisper', 'typing'));
      await Promise.all([subscribed(mine), subscribed(theirs)]);
      mine.whisper('typing', { name: 'Ada' });
      await eventuallyEqual('Bob hears it', () => seen[1], [{ name: 'Ada' }]);
      await fence(page);
      assert.deepEqual(seen[0], []);
    });

    test('join: here, joining, leaving, and a whisper in the room', async (t) => {
      const [page, other] = [open(t, '42'), open(t, '7')];
      const room = page.join('room');
      const seen = { here: heard(room, 'here'), joining: heard(room, 'joining'), leaving: heard(room, 'leaving') };
      await subscribed(room);
      const otherRoom = other.join('room');
      const theirs = heard(otherRoom, 'here');
      const whispers = heard(otherRoom, 'listenForWhisper', 'wave');
      await subscribed(otherRoom);
      await eventuallyEqual('Bob is announced', () => seen, { here: [[{ name: 'Ada' }]], joining: [{ name: 'Bob' }], leaving: [] });
      assert.deepEqual(theirs[0].map(({ name }) => name).sort(), ['Ada', 'Bob']);
      room.whisper('wave', { to: 'all' });
      await eventuallyEqual('the wave', () => whispers, [{ to: 'all' }]);
      other.leave('room');
      await eventuallyEqual('Bob has left', () => seen.leaving, [{ name: 'Bob' }]);
    });

    test('notification', async (t) => {
      const page = open(t, '42');
      const channel = page.private('App.Models.User.42');
      const seen = heard(channel, 'notification');
      await subscribed(channel);
      const notice = { id: 'f1e2', type: 'App\\Notifications\\InvoicePaid', amount: 10 };
      await sdk.trigger('private-App.Models.User.42', 'Illuminate\\Notifications\\Events\\BroadcastNotificationCreated', notice);
      await fence(page);
      assert.deepEqual(seen, [notice]);
    });

    test('encryptedPrivate decrypts what the server SDK encrypted', async (t) => {
      const page = open(t, '42');
      const channel = page.encryptedPrivate('vault');
      const seen = heard(channel, 'listen', 'Deposit');
      await subscribed(channel);
      await sdk.trigger('private-encrypted-vault', 'App\\Events\\Deposit', { gold: 'Zoë' });
      await fence(page);
      assert.deepEqual(seen, [{ gold: 'Zoë' }]);
    });

    test('error: fired by the broker for a bad signature, by the endpoint for a refusal', async (t) => {
      const page = open(t, '42', { wish: 'forge' });
      const forged = [page.private('forged'), page.join('forged'), page.encryptedPrivate('forged')].map((channel) => heard(channel, 'error'));
      const forbidden = heard(page.private('forbidden'), 'error');
      const refusal = { type: 'AuthError', error: 'The connection is unauthorized.', status: 401 };
      await eventuallyEqual('the broker refuses each', () => forged, [[refusal], [refusal], [refusal]]);
      await eventuallyEqual('the application refuses', () => forbidden.map(({ type, status }) => [type, status]), [['AuthError', 403]]);
      assert.equal(page.connectionStatus(), 'connected');
    });

    test('leave gives up every kind of that name', async (t) => {
      const page = open(t, '42');
      const kinds = [page.channel('left'), page.private('left'), page.encryptedPrivate('left'), page.join('left')];
      await Promise.all(kinds.map(subscribed));
      const occupied = async () => Object.keys((await jsonOf(sdk.get({ path: '/channels' }))).channels).filter((name) => name.endsWith('left')).sort();
      assert.deepEqual(await occupied(), ['left', 'presence-left', 'private-encrypted-left', 'private-left']);
      page.leave('left');
      await eventuallyEqual('all four are vacated', occupied, []);
    });

    test('signin and messages to the user', async (t) => {
      const page = open(t, '42');
      const { pusher, signin } = page.connector;
      signin.call(page.connector);
      await next(pusher, 'pusher:signin_success');
      assert.equal(pusher.user.user_data.id, '42');
      const notice = next(pusher.user, 'notice');
      await sdk.sendToUser('42', 'notice', { text: 'hi' });
      assert.deepEqual(await notice, { text: 'hi' });
    });

    test('disconnect', async (t) => {
      const page = open(t, '42');
      await subscribed(page.channel('last'));
      page.disconnect();
      assert.equal(page.connectionStatus(), 'disconnected');
      await eventually('the broker knows', async () => !(await jsonOf(sdk.get({ path: '/channels/last' }))).occupied);
    });
  });
}
