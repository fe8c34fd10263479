// The guides and README, as the runner of their snippets sees them. `<!-- test: NAME -->` in front of a block names it; each name is used
// by a test of guides.test.mjs, and what goes wrong in a block is said with its file and line.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const GUIDES = 'src/docs/guides';

export const pages = () => ['README.md', ...readdirSync(ROOT + GUIDES).filter((name) => name !== 'links.md').map((name) => `${GUIDES}/${name}`)];

/** The blocks of a page: where each is, its language, its notes and its text. */
export function blocks(path, page = readFileSync(ROOT + path, 'utf8')) {
  const found = [];
  let notes = {};
  let block;
  page.split('\n').forEach((line, index) => {
    if (block) {
      if (line.trim() !== '```') return block.lines.push(line);
      block.text = `${block.lines.join('\n')}\n`;
      found.push(block);
      block = undefined;
      return undefined;
    }
    const note = /^\s*<!-- (\w+): (.*) -->$/.exec(line);
    const fence = /^\s*```(\w*)/.exec(line);
    if (note) notes[note[1]] = note[2];
    if (fence) {
      block = { place: `${path}:${index + 1}`, language: fence[1] || 'rust', notes, lines: [] };
      notes = {};
    }
    return undefined;
  });
  return found;
}

const LANGUAGES = ['js', 'php', 'python', 'html', 'json', 'http'];

/** All blocks that these tests are for, by name. */
export function named(all = pages().flatMap((path) => blocks(path))) {
  const byName = new Map();
  for (const block of all.filter(({ language, notes }) => LANGUAGES.includes(language) || notes.test)) {
    assert.ok(block.notes.test, `${block.place}: a block of ${block.language} that no test names`);
    assert.ok(!byName.has(block.notes.test), `${block.place}: ${block.notes.test} is already ${byName.get(block.notes.test)?.place}`);
    byName.set(block.notes.test, block);
  }
  return byName;
}

const used = new Set();
export const unused = () => [...named()].filter(([name]) => !used.has(name)).map(([name, { place }]) => `${place}: no test has used ${name}`);

/** The block of a name, with other things in place of what its reader has: `{ 6001: broker.port }`. */
export function snippet(name, instead = {}) {
  const block = named().get(name);
  assert.ok(block, `no guide has a block called ${name}`);
  used.add(name);
  return { ...block, text: replaced(block, instead) };
}

/** The block that a page calls a file. */
export function file(path, name, instead = {}) {
  const block = blocks(path).find(({ notes }) => notes.file === name);
  assert.ok(block, `${path} has no file ${name}`);
  return { ...block, text: replaced(block, instead) };
}

function replaced({ place, text }, instead) {
  return Object.entries(instead).reduce((result, [theirs, ours]) => {
    assert.ok(result.includes(theirs), `${place}: there is no ${theirs} in it`);
    return result.replaceAll(theirs, ours);
  }, text);
}

/** Runs `work`, and says which block it was when that fails. */
export async function at({ place }, work) {
  try {
    return await work();
  } catch (error) {
    throw new Error(`${place}: ${error.message}`, { cause: error });
  }
}

/** What dotenv makes of a file, and Vite of it in `import.meta.env`. */
export function dotenv({ text }) {
  const variables = {};
  for (const line of text.split('\n').filter((line) => line && !line.startsWith('#'))) {
    const [, name, value] = /^(\w+)=(.*)$/.exec(line);
    variables[name] = value.replace(/^"(.*)"$/, '$1').replace(/\$\{(\w+)\}/g, (_, other) => variables[other]);
  }
  return variables;
}

/** What Vite does to `import.meta.env`. */
export const built = (block, variables) => ({
  ...block,
  text: block.text.replace(/import\.meta\.env\.(\w+)/g, (_, name) => JSON.stringify(variables[name])),
});
