// A load balancer of ten lines: every new TCP connection goes to the broker that is current at that moment.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Balancer {
  static async to(t, broker) {
    const balancer = new Balancer();
    balancer.broker = broker;
    const sockets = new Set();
    const server = createServer((near) => {
      const far = connect(balancer.broker.port, '127.0.0.1');
      for (const [from, into] of [[near, far], [far, near]]) {
        sockets.add(from);
        from.pipe(into);
        from.on('error', () => into.destroy());
        from.on('close', () => sockets.delete(from));
      }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    balancer.port = server.address().port;
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return balancer;
  }
}
