// Makes dist/ from src/. The result is committed, and the broker serves it; a test builds again and compares byte for byte.
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const outdir = process.argv[2] ?? here('dist');

await build({
  absWorkingDir: here('.'),
  entryPoints: { desk: 'src/main.ts' },
  outdir,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  charset: 'utf8',
  minify: true,
  legalComments: 'none',
  footer: { js: '/* With Laravel Echo and pusher-js, both under the MIT licence: /desk/licences.txt */' },
  logLevel: 'warning',
});
await build({
  absWorkingDir: here('.'),
  entryPoints: { desk: 'src/desk.css' },
  outdir,
  target: 'es2022',
  // `light-dark()` and nesting are left to the browser.
  supported: { nesting: true },
  charset: 'utf8',
  minify: true,
  logLevel: 'warning',
});
await copyFile(here('src/index.html'), `${outdir}/index.html`);

const licence = async (name, file) => `${name}\n\n${(await readFile(here(`node_modules/${name}/${file}`), 'utf8')).trim()}\n`;
const licences = await Promise.all([licence('laravel-echo', 'LICENSE.md'), licence('pusher-js', 'LICENCE')]);
await writeFile(`${outdir}/licences.txt`, licences.join('\n\n'));
