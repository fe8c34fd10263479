// Certificates for 127.0.0.1, signed by the authority that run.sh has made and that NODE_EXTRA_CA_CERTS lets this process trust.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const CA = process.env.NODE_EXTRA_CA_CERTS;

export class Certs {
  constructor(t) {
    assert.ok(CA, 'start this by tests/clients/run.sh: it makes the authority');
    this.directory = mkdtempSync(join(tmpdir(), 'holdline-certs-'));
    t.after(() => rmSync(this.directory, { recursive: true, force: true }));
    writeFileSync(this.path('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1');
  }

  path(name) {
    return join(this.directory, name);
  }

  /** Makes NAME.pem and NAME.key, which say that they are called so. */
  issue(name) {
    const key = CA.replace(/\.pem$/, '.key');
    this.#openssl(`req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ${name}.key -out ${name}.csr -subj /CN=${name}`);
    const serial = `-set_serial ${Date.now()}${Math.floor(Math.random() * 1e6)}`;
    this.#openssl(`x509 -req -in ${name}.csr -CA ${CA} -CAkey ${key} ${serial} -days 30 -extfile names -out ${name}.pem`);
    return this;
  }

  #openssl(args) {
    execFileSync('openssl', args.split(' '), { cwd: this.directory, stdio: ['ignore', 'ignore', 'ignore'] });
  }

  /** Puts the pair, or one half of it, where a broker with `tls` reads it. */
  install(name, kinds = ['pem', 'key']) {
    for (const kind of kinds) {
      copyFileSync(this.path(`${name}.${kind}`), this.path('copy'));
      renameSync(this.path('copy'), this.path(`tls.${kind}`));
    }
    return this;
  }

  /** The section of the configuration. */
  get tls() {
    return { certificate: this.path('tls.pem'), key: this.path('tls.key'), reload_interval: '100ms' };
  }
}
