// What an application serves next to the broker: /broadcasting/auth and /broadcasting/user-auth, signed by the server SDK,
// and for browser tests a few pages. Who asks is told by a bearer token or a cookie, both of which are just the user's id.
import { once } from 'node:events';
import { createServer } from 'node:http';

export class AuthServer {
  requests = [];
  pages = new Map();
  users = {
    42: { info: { name: 'Ada' } },
    7: { info: { name: 'Bob' } },
    9: { info: { name: 'Zoë / x' } },
  };

  static async start(sdk) {
    const auth = new AuthServer();
    auth.sdk = sdk;
    auth.server = createServer((request, response) => auth.#serve(request, response));
    auth.server.listen(0, '127.0.0.1');
    await once(auth.server, 'listening');
    auth.url = `http://127.0.0.1:${auth.server.address().port}`;
    return auth;
  }

  async stop() {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  async #serve(request, response) {
    const { pathname } = new URL(request.url, this.url);
    if (request.method === 'GET') return this.#page(pathname, response);
    let body = '';
    for await (const chunk of request) body += chunk;
    const form = Object.fromEntries(new URLSearchParams(body));
    this.requests.push({ path: pathname, headers: request.headers, form });
    // A sign-in that comes after everything else.
    if (request.headers['x-wish'] === 'late') await new Promise((resolve) => setTimeout(resolve, 500));
    const { status, answer } = this.#answer(pathname, form, request.headers);
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  }

  #answer(path, { socket_id: socket, channel_name: channel }, headers) {
    const user = whoAsks(headers);
    if (user === undefined) return { status: 401, answer: { message: 'Unauthenticated.' } };
    if (channel?.includes('forbidden')) return { status: 403, answer: { message: 'This action is unauthorized.' } };
    const wish = headers['x-wish'] ?? '';
    const answer = path === '/broadcasting/auth' ? this.#authorise(socket, channel, user, wish) : this.#signIn(socket, user);
    if (wish === 'forge') answer.auth = answer.auth.replace(/.$/, (digit) => (digit === '0' ? '1' : '0'));
    return { status: 200, answer };
  }

  #authorise(socket, channel, user, wish) {
    if ((!channel.startsWith('presence-') && wish !== 'member') || wish === 'no-channel-data') return this.sdk.authorizeChannel(socket, channel);
    const user_id = wish === 'numeric-id' ? Number(user) : user;
    return this.sdk.authorizeChannel(socket, channel, { user_id, user_info: this.users[user]?.info });
  }

  #signIn(socket, user) {
    const { info, watchlist } = this.users[user] ?? {};
    return this.sdk.authenticateUser(socket, { id: user, user_info: info, watchlist });
  }

  #page(path, response) {
    const page = this.pages.get(path);
    if (page === undefined) return response.writeHead(404).end();
    response.writeHead(200, { 'content-type': path.endsWith('.js') ? 'text/javascript' : 'text/html; charset=utf-8' }).end(page);
  }
}

function whoAsks({ authorization, cookie }) {
  return /^Bearer (\S+)$/.exec(authorization ?? '')?.[1] ?? /\buser=(\w+)/.exec(cookie ?? '')?.[1];
}
