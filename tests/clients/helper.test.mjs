// clients/js in pages of headless Chromium, with the real pusher-js and Laravel Echo, against the real broker.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { World, at, becomes, fine, log, open, take } from './support/holds.mjs';
import { run } from './support/guides-browser.mjs';
import { blocks } from './support/guides.mjs';
import { always, eventually, eventuallyEqual } from './support/waiting.mjs';

let world;

before(async () => {
  world = await World.start();
});

after(() => world?.stop());

suite('one hold', () => {
  test('it is held: by whom, under which fence; and released, which the broker has read when release() resolves', async (t) => {
    const ada = await world.person(t, '42');
    assert.equal(await open(ada, 'private-order.1'), 'pending');
    const { fence, ...held } = await becomes(ada, 'held');
    assert.deepEqual(held, { state: 'held', holder: 'user:42', resource: 'order:1', outcome: 'granted', cause: undefined, error: undefined });
    assert.deepEqual((await world.locks())['order:1'], { fence, principal: 'user:42', state: 'held' });
    assert.deepEqual(await log(ada), ['pending>held', ['held', { resource: 'order:1', fence, holder: 'user:42', outcome: 'granted' }]]);
    // At once: an unsubscription has no grace. And nobody is asked twice.
    assert.deepEqual(await ada.evaluate(async () => {
      const late = [];
      window.h.onHeld(({ fence }) => late.push(fence));
      await Promise.resolve();
      const first = window.h.release();
      await Promise.all([first, window.h.release()]);
      return [late, window.h.state, window.h.fence, pusher.channel('private-order.1') === undefined];
    }), [[fence], 'released', fence, true]);
    await world.freed('order:1');
    assert.deepEqual(await ada.evaluate('sent'), ['subscribe private-order.1', 'unsubscribe private-order.1']);
    fine(ada);
  });

  test('a release that is the last thing before the connection is closed gets through', async (t) => {
    const ada = await world.person(t, '42');
    await take(ada, 'private-order.2');
    await ada.evaluate(async () => {
      await window.h[Symbol.asyncDispose]();
      pusher.disconnect();
    });
    // Sooner than its grace.
    await world.freed('order:2');
    fine(ada);
  });

  test('a release at the moment in which it is held waits for the answer to itself, not for one to what was asked before', async (t) => {
    const ada = await world.person(t, '42');
    const [asked, answered] = await ada.evaluate(() => new Promise((done) => {
      let [asked, answered] = [0, 0];
      const send = pusher.send_event.bind(pusher);
      pusher.send_event = (event, ...rest) => {
        if (event === 'pusher:ping') asked += 1;
        return send(event, ...rest);
      };
      pusher.bind('pusher:pong', () => { answered += 1; });
      const held = hold(pusher, 'private-order.90');
      held.onHeld(async () => {
        await held.release();
        done([asked, answered]);
      });
    }));
    assert.deepEqual([asked, answered], [2, 2]);
    fine(ada);
  });

  test('somebody else has it: who, and when it is free; who asks again then has it under a higher fence', async (t) => {
    const [ada, bob] = [await world.person(t, '42'), await world.person(t, '7')];
    const { fence } = await take(ada, 'private-order.3');
    await open(bob, 'private-order.3');
    const refused = await becomes(bob, 'refused');
    assert.deepEqual([refused.holder, refused.fence, refused.resource], ['user:42', undefined, 'order:3']);
    assert.deepEqual([refused.error.type, refused.error.status], ['LockConflict', 409]);
    await ada.evaluate('h.release()');
    await becomes(bob, 'free');
    await always('nobody asks by itself', async () => (await at(bob)).state === 'free', { during: 500 });
    // Nor does a new connection.
    await bob.evaluate(() => { pusher.disconnect(); pusher.connect(); });
    await eventually('he is back', () => bob.evaluate('pusher.connection.state === "connected" && pusher.user.user_data'));
    await always('it stays free', async () => !('order:3' in (await world.locks())) && (await at(bob)).state === 'free', { during: 500 });
    await bob.evaluate('h.retry()');
    const held = await becomes(bob, 'held');
    assert.ok(held.fence > fence);
    assert.deepEqual((await log(bob)).map((entry) => (Array.isArray(entry) ? entry[0] : entry)), [
      'pending>refused', 'refused', 'refused>free', 'free', 'free>pending', 'pending>held', 'held',
    ]);
    fine(ada, bob);
  });

  test('with retry it is had as soon as it is free, by one of those who wait; the others wait on', async (t) => {
    const [ada, bob, zoe] = [await world.person(t, '42'), await world.person(t, '7'), await world.person(t, '9')];
    await take(ada, 'private-order.4');
    for (const page of [bob, zoe]) await open(page, 'private-order.4', { retry: true });
    for (const page of [bob, zoe]) await becomes(page, 'refused');
    await ada.evaluate('h.release()');
    const first = await eventually('one of them has it', async () => {
      for (const page of [bob, zoe]) if ((await at(page)).state === 'held') return page;
    });
    const second = first === bob ? zoe : bob;
    const { holder } = await at(first);
    // Until it has heard that it was free, and has asked, it is refused as before: for ada.
    await eventuallyEqual('the other one is refused for whoever has it', async () => {
      const { state, holder } = await at(second);
      return { state, holder };
    }, { state: 'refused', holder });
    await first.evaluate('h.release()');
    await becomes(second, 'held');
    fine(ada, bob, zoe);
  });

  test('a rule that does not show the holder: refused by nobody in particular', async (t) => {
    const [ada, bob] = [await world.person(t, '42'), await world.person(t, '7')];
    await take(ada, 'private-quiet.1');
    await open(bob, 'private-quiet.1');
    const { holder, error } = await becomes(bob, 'refused');
    assert.deepEqual([holder, error.type], [undefined, 'LockConflict']);
  });

  test('lost to an operator; asked for again, it is another lock', async (t) => {
    const ada = await world.person(t, '42');
    const { fence } = await take(ada, 'private-order.5', { retry: true });
    await world.forceRelease(fence);
    const lost = await becomes(ada, 'lost');
    assert.deepEqual([lost.cause, lost.fence], ['force_released', fence]);
    await always('what was lost is not asked for again', async () => (await at(ada)).state === 'lost', { during: 500 });
    await ada.evaluate('h.retry()');
    const held = await becomes(ada, 'held');
    assert.ok(held.fence > fence);
    assert.deepEqual((await log(ada)).at(2), 'held>lost');
    assert.deepEqual((await log(ada)).at(3), ['lost', { resource: 'order:5', fence, cause: 'force_released' }]);
    fine(ada);
  });

  test('lost to somebody who takes it over; a new connection does not take it back by itself', async (t) => {
    const [ada, bob] = [await world.person(t, '42'), await world.person(t, '7')];
    const { fence } = await take(ada, 'private-taken.1');
    const theirs = await take(bob, 'private-taken.1');
    assert.ok(theirs.fence > fence);
    const lost = await becomes(ada, 'lost');
    assert.deepEqual([lost.cause, lost.fence], ['taken_over', fence]);
    await ada.evaluate(() => { pusher.disconnect(); pusher.connect(); });
    await eventually('she is back', () => ada.evaluate('pusher.connection.state === "connected"'));
    await always('Bob keeps it', async () => (await at(bob)).state === 'held' && (await at(ada)).state === 'lost', { during: 1_000 });
    await ada.evaluate('h.retry()');
    await becomes(ada, 'held');
    await becomes(bob, 'lost');
    fine(ada, bob);
  });

  test('the auth endpoint says no, and a channel without a rule has no lock', async (t) => {
    const ada = await world.person(t, '42');
    await open(ada, 'private-order.forbidden');
    const refused = await becomes(ada, 'refused');
    assert.deepEqual([refused.error.type, refused.error.status, refused.holder], ['AuthError', 403, undefined]);
    await open(ada, 'private-plain', {}, 'plain');
    await becomes(ada, 'unguarded', { as: 'plain' });
    assert.match(await ada.evaluate(() => { try { hold(pusher, 'private-encrypted-x'); } catch (error) { return `${error}`; } }), /TypeError.*encrypted/);
    assert.match(await ada.evaluate(() => { try { hold(pusher); } catch (error) { return `${error}`; } }), /TypeError.*must be a name/);
    fine(ada);
  });
});

test('the page of the README: yours, somebody else\'s, free, and lost', async (t) => {
  const [example] = blocks('clients/js/README.md').filter(({ language }) => language === 'js');
  const somebody = async (user) => {
    const page = await world.person(t, user, { kind: 'echo' });
    page.said = [];
    await page.evaluate(() => {
      Object.assign(window, { Echo: client, form: {}, calls: [] });
      for (const name of ['edit', 'watch', 'stop']) window[name] = (value) => void window.calls.push([name, value]);
      window.offer = (text, accept) => window.calls.push([text, (window.accept = accept) && null]);
    });
    await run(page, example);
    return page;
  };
  const calls = (page) => page.evaluate('calls');
  const ada = await somebody('42');
  await eventually('she edits', async () => (await calls(ada)).length === 1);
  const { fence } = (await world.locks())['order:42'];
  assert.deepEqual([await calls(ada), await ada.evaluate('form.disabled')], [[['edit', fence]], false]);
  const bob = await somebody('7');
  await eventuallyEqual('he watches', () => calls(bob), [['watch', 'user:42']]);
  await world.forceRelease(fence);
  await eventuallyEqual('she has lost it', () => calls(ada), [['edit', fence], ['stop', 'force_released']]);
  await eventuallyEqual('he may have it', () => calls(bob), [['watch', 'user:42'], ['Open it now', null]]);
  assert.deepEqual(await Promise.all([ada, bob].map((page) => page.evaluate('form.disabled'))), [true, true]);
  await bob.evaluate('accept()');
  await eventually('he has it', async () => (await world.locks())['order:42']?.principal === 'user:7');
  fine(ada, bob);
});

suite('tabs, and several holds of one page', () => {
  test('two tabs of one user share the lock, until the last one lets go', async (t) => {
    const browser = await world.browserOf(t, '42');
    const tabs = [];
    for (const _ of [1, 2]) {
      const page = await world.page(browser, '/helper.html', { signin: '' });
      await page.evaluate('use()');
      tabs.push(page);
    }
    const [first, second] = [await take(tabs[0], 'private-order.10'), await take(tabs[1], 'private-order.10')];
    assert.deepEqual([first.outcome, second.outcome, second.fence], ['granted', 'attached', first.fence]);
    await tabs[0].evaluate('h.release()');
    await always('it stays theirs', async () => (await at(tabs[1])).state === 'held' && 'order:10' in (await world.locks()), { during: 500 });
    await tabs[1].evaluate('h.release()');
    await world.freed('order:10');
    fine(...tabs);
  });

  test('two holds of one client share the subscription; what fails in a handler is seen, and stops nobody', async (t) => {
    const ada = await world.person(t, '42');
    const { fence } = await take(ada, 'private-order.11', { name: 'a ' }, 'a');
    await ada.evaluate(() => window.a.onState(() => { throw new Error('a handler that fails'); }));
    await open(ada, 'private-order.11', { name: 'b ' }, 'b');
    // It is held already, and hears of it all the same.
    await eventually('it is told', async () => (await log(ada)).some((entry) => entry[0] === 'b held'));
    await ada.evaluate('a.release()');
    assert.deepEqual([(await at(ada, 'a')).state, (await at(ada, 'b')).state], ['released', 'held']);
    assert.equal((await world.locks())['order:11'].fence, fence);
    assert.deepEqual(await ada.evaluate('sent'), ['subscribe private-order.11']);
    await eventuallyEqual('the failure is seen', async () => ada.wrong, ['a handler that fails']);
    await ada.evaluate('b.release()');
    await world.freed('order:11');
  });

  test('one more hold of a channel that was lost, or that could not be had, asks again; for one that is waited for it waits', async (t) => {
    const [ada, bob] = [await world.person(t, '42'), await world.person(t, '7')];
    const { fence } = await take(ada, 'private-order.17');
    await open(bob, 'private-order.17', {}, 'a');
    await becomes(bob, 'refused', { as: 'a' });
    await open(bob, 'private-order.17', {}, 'b');
    await always('he waits', async () => (await at(bob, 'b')).state === 'refused', { during: 300 });
    assert.deepEqual(await bob.evaluate('sent'), ['subscribe private-order.17']);
    await world.forceRelease(fence);
    await becomes(ada, 'lost');
    await becomes(bob, 'free', { as: 'b' });
    await take(bob, 'private-order.17', {}, 'c');
    assert.deepEqual(await bob.evaluate('[a.state, b.state]'), ['held', 'held']);
    await open(ada, 'private-order.17', {}, 'again');
    await becomes(ada, 'refused', { as: 'again' });
    fine(ada, bob);
  });

  test('released while it is on its way, and asked for again at once: one lock, and none is left behind', async (t) => {
    const ada = await world.person(t, '42');
    await ada.evaluate(() => {
      for (let n = 0; n < 20; n += 1) window.open_('private-order.12').release();
    });
    const { fence } = await take(ada, 'private-order.12');
    assert.equal((await world.locks())['order:12'].fence, fence);
    await ada.evaluate(() => { pusher.disconnect(); pusher.connect(); });
    await becomes(ada, 'held');
    await ada.evaluate('h.release()');
    await world.freed('order:12');
    await ada.evaluate(() => { pusher.disconnect(); pusher.connect(); });
    await eventually('she is back', () => ada.evaluate('pusher.connection.state === "connected"'));
    await always('nothing is asked for', async () => !('order:12' in (await world.locks())), { during: 500 });
    fine(ada);
  });

  test('refused and released: the next connection does not ask, and nobody is told that it is free', async (t) => {
    const [ada, bob] = [await world.person(t, '42'), await world.person(t, '7')];
    await take(ada, 'private-order.13');
    await open(bob, 'private-order.13');
    await becomes(bob, 'refused');
    await bob.evaluate('h.release()');
    await bob.evaluate(() => { pusher.disconnect(); pusher.connect(); });
    await eventually('he is back', () => bob.evaluate('pusher.connection.state === "connected"'));
    await ada.evaluate('h.release()');
    await world.freed('order:13');
    await always('it stays free', async () => !('order:13' in (await world.locks())), { during: 500 });
    assert.equal((await at(bob)).state, 'released');
    fine(ada, bob);
  });

  test('an unsubscription by somebody else is a release', async (t) => {
    const ada = await world.person(t, '42');
    await take(ada, 'private-order.14');
    await ada.evaluate(() => pusher.unsubscribe('private-order.14'));
    assert.equal((await at(ada)).state, 'released');
    await world.freed('order:14');
    // Before it has left, and before its answer has come, too.
    assert.equal(await ada.evaluate(() => {
      window.h = window.open_('private-order.15');
      pusher.unsubscribe('private-order.15');
      return window.h.state;
    }), 'released');
    await ada.evaluate('h.release()');
    await world.freed('order:15');
    await ada.evaluate(() => new Promise((left) => {
      const { connection } = pusher;
      const send = connection.send_event;
      connection.send_event = (event, data, channel) => {
        const sent = send(event, data, channel);
        if (event === 'pusher:subscribe' && data.channel === 'private-order.15') {
          connection.send_event = send;
          // No answer is read before this.
          queueMicrotask(() => left(pusher.unsubscribe('private-order.15')));
        }
        return sent;
      };
      window.h = window.open_('private-order.15');
    }));
    assert.equal((await at(ada)).state, 'released');
    await ada.evaluate('h.release()');
    await world.freed('order:15');
    await take(ada, 'private-order.15');
    fine(ada);
  });

  test('a channel that somebody has subscribed to before is subscribed to again, to be told of the lock', async (t) => {
    const ada = await world.person(t, '42');
    await ada.evaluate(() => new Promise((resolve) => pusher.subscribe('private-order.16').bind('pusher:subscription_succeeded', resolve)));
    const before = (await world.locks())['order:16'].fence;
    const { fence } = await take(ada, 'private-order.16');
    assert.ok(fence > before);
    await ada.evaluate(() => (window.seen = new Promise((resolve) => pusher.channel('private-order.16').bind('Saved', resolve))) && null);
    await world.sdk.trigger('private-order.16', 'Saved', { by: 'somebody' });
    assert.deepEqual(await ada.evaluate('seen'), { by: 'somebody' });
    fine(ada);
  });
});

for (const broadcaster of ['pusher', 'reverb']) {
  test(`Laravel Echo, broadcaster ${broadcaster}: the private channel by its short name, beside Echo's own listeners`, async (t) => {
    const number = broadcaster.length;
    const ada = await world.person(t, '42', { kind: 'echo', broadcaster });
    await ada.evaluate((number) => {
      window.heard = new Promise((resolve) => client.private(`order.2${number}`).listen('.Saved', resolve));
    }, number);
    const { resource } = await take(ada, `order.2${number}`);
    assert.equal(resource, `order:2${number}`);
    await world.sdk.trigger(`private-order.2${number}`, 'Saved', { ok: true });
    assert.deepEqual(await ada.evaluate('heard'), { ok: true });
    // Echo forgets the channel, too, so that it can be opened again.
    await ada.evaluate('h.release()');
    assert.deepEqual(await ada.evaluate('Object.keys(client.connector.channels)'), []);
    await take(ada, `order.2${number}`);
    await ada.evaluate((number) => client.leave(`order.2${number}`), number);
    assert.equal((await at(ada)).state, 'released');
    await world.freed(`order:2${number}`);
    fine(ada);
  });
}

test('a page without sign-in holds as its socket, and a subscription that is signed with a user as that user', async (t) => {
  const page = await world.page(await world.browserOf(t, '42'));
  await page.evaluate('use()');
  const { holder } = await take(page, 'private-order.40');
  assert.equal(holder, `socket:${await page.evaluate('pusher.connection.socket_id')}`);
  const named = await world.page(await world.browserOf(t, '7'), '/helper.html', { wish: 'member' });
  await named.evaluate('use()');
  assert.equal((await take(named, 'private-order.41')).holder, 'user:7');
  fine(page, named);
});
