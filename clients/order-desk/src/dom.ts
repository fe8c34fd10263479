// As much of a framework as one page needs.

type Child = Node | string | false | undefined;

/** The element of the page with this id. */
export function el<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no #${id} in the page`);
  return found as T;
}

/** A new element. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | number | boolean | undefined> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== false && child !== undefined));
  return element;
}

/** Changes a text only if it is another one: a live region would read it out again. */
export function say(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows an element, or does not. */
export function show(element: HTMLElement, visible: boolean): void {
  element.hidden = !visible;
}

/** A group of radio buttons that looks like one control. */
export function segments<T extends string>(
  group: HTMLElement,
  name: string,
  options: readonly (readonly [T, string])[],
  onChange: (value: T) => void,
): (value: T) => void {
  const inputs = options.map(([value, label]) => {
    const input = h('input', { type: 'radio', name, value });
    input.addEventListener('change', () => onChange(value));
    group.append(h('label', {}, input, h('span', {}, label)));
    return input;
  });
  return (value) => {
    for (const input of inputs) input.checked = input.value === value;
  };
}
