// The order itself: what is in it, and the form that saves it under a fence.
import * as api from './api.ts';
import { el, say, segments, show } from './dom.ts';
import { nameOf, readable } from './people.ts';
import type { Order, Stage } from './wire.ts';

const STAGES = [
  ['received', 'Received'],
  ['picking', 'Picking'],
  ['packed', 'Packed'],
  ['shipped', 'Shipped'],
] as const satisfies readonly (readonly [Stage, string])[];

/** What may be saved, and with what. */
export type Writing = 'no' | 'yes' | 'at own risk';

export class Sheet {
  #order: Order | undefined;
  /** Somebody is typing: what others save does not overwrite it. */
  #dirty = false;
  #stage: Stage = 'received';
  #fence: number | undefined;
  #setStage: (stage: Stage) => void;

  constructor(onSaved: (order: Order) => void) {
    this.#setStage = segments(el('stages'), 'stage', STAGES, (stage) => {
      this.#stage = stage;
      this.#dirty = true;
    });
    el('note').addEventListener('input', () => (this.#dirty = true));
    el('form').addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#save(onSaved);
    });
  }

  /** Draws an order, and says with which fence it would be saved. */
  draw(order: Order, writing: Writing, fence: number | undefined): void {
    if (this.#order?.id !== order.id) {
      this.#dirty = false;
      show(el('result'), false);
      say(el('title'), `Order ${order.id}`);
      say(el('subtitle'), `${order.customer} — ${order.items}, ${order.total}`);
    }
    if (this.#fence !== fence) show(el('result'), false);
    if (writing === 'no') this.#dirty = false;
    this.#order = order;
    this.#fence = fence;
    if (!this.#dirty) {
      this.#stage = order.stage;
      this.#setStage(order.stage);
      const note = el<HTMLTextAreaElement>('note');
      if (note.value !== order.note) note.value = order.note;
    }
    el<HTMLFieldSetElement>('fields').disabled = writing === 'no';
    const button = el('save');
    button.dataset['writing'] = writing;
    say(button, writing === 'no' ? 'Save' : writing === 'yes' ? `Save under fence ${fence}` : `Save with fence ${fence} all the same`);
    say(el('saved'), order.saved ? `Saved by ${nameOf(order.saved.by)} under fence ${order.saved.fence}` : 'Not saved yet');
  }

  async #save(onSaved: (order: Order) => void): Promise<void> {
    const [order, fence] = [this.#order, this.#fence];
    if (!order || fence === undefined) return;
    try {
      const saved = await api.save(order.id, { fence, stage: this.#stage, note: el<HTMLTextAreaElement>('note').value });
      this.#dirty = false;
      this.#says('good', `Saved. From now on order ${order.id} takes nothing that is older than fence ${fence}.`);
      onSaved(saved);
    } catch (error) {
      const text = error instanceof api.Refused ? readable(error.message) : 'the broker is away';
      this.#says('bad', `Not saved: ${text.replace(/^F/, 'f')}.`);
    }
  }

  #says(tone: 'good' | 'bad', text: string): void {
    const result = el('result');
    result.dataset['tone'] = tone;
    show(result, true);
    say(result, text);
  }
}
