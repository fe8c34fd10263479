// A port of this machine that nobody listens on, and that no connection is given by chance before somebody does.
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Below those that the kernel gives to connections, and to whoever asks for port 0. */
const [FIRST, LAST] = [20_000, 32_000];

export async function freePort() {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    const server = createServer().listen(port, '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch (error) {
      if (error.code === 'EADDRINUSE') continue;
      throw error;
    }
    server.close();
    await once(server, 'close');
    return port;
  }
}
