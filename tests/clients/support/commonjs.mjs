// Packages that come as CommonJS only, as a module for a browser: no bundler, and the very files of the package.
import { readFileSync } from 'node:fs';

/** The source of a module that is `file` and exports these names of it. `imports` says where the page finds what it requires. */
export function moduleOf(file, names, imports = {}) {
  const entries = Object.entries(imports);
  return `${entries.map(([, url], n) => `import m${n} from ${JSON.stringify(url)};`).join('\n')}
const process = { env: { NODE_ENV: 'development' } };
const module = { exports: {} };
const require = (name) => ({ ${entries.map(([name], n) => `${JSON.stringify(name)}: m${n}`).join(', ')} })[name];
((exports) => {
${readFileSync(file, 'utf8')}
})(module.exports);
export default module.exports;
export const { ${names.join(', ')} } = module.exports;
`;
}
