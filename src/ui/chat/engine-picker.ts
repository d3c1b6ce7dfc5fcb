import { css, html, LitElement } from 'lit';
import type { Place } from './engines.ts';

const PLACES: { place: Place; label: string; title: string }[] = [
  {
    place: 'browser',
    label: 'This browser',
    title: 'Loads the model into this page and runs it with WebGPU',
  },
  { place: 'server', label: 'This server', title: 'Uses the server that this page came from' },
];

/**
 * Where the model runs.
 *
 * @element nf-engine-picker
 * @fires pick - detail: 'browser' | 'server'
 */
export class EnginePicker extends LitElement {
  static override styles = css`
    div {
      display: inline-flex;
      border: 1px solid var(--line);
      border-radius: 0.5rem;
      overflow: hidden;
    }
    button {
      font: inherit;
      font-size: 0.9rem;
      border: 0;
      padding: 0.3rem 0.8rem;
      color: var(--text);
      background: transparent;
      cursor: pointer;
    }
    button[aria-checked='true'] {
      background: var(--accent);
      color: var(--accent-text);
    }
    button:focus-visible {
      outline: 2px solid var(--accent);
      outline-offset: -3px;
    }
    button[aria-checked='true']:focus-visible {
      outline-color: var(--accent-text);
    }
  `;
  static override properties = { place: { attribute: false } };

  declare place: Place | undefined;

  protected override render() {
    return html`<div role="radiogroup" aria-label="Where the model runs" @keydown=${this.#onKey}>
      ${PLACES.map(
        ({ place, label, title }, i) =>
          html`<button
            role="radio"
            title=${title}
            data-place=${place}
            aria-checked=${this.place === place}
            tabindex=${this.place === place || (this.place === undefined && i === 0) ? 0 : -1}
            @click=${() => this.#pick(place)}
          >
            ${label}
          </button>`,
      )}
    </div>`;
  }

  #pick(place: Place): void {
    this.dispatchEvent(new CustomEvent('pick', { detail: place }));
  }

  /** Arrow keys move between the choices, as in every group of radio buttons. */
  #onKey(event: KeyboardEvent): void {
    if (!['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown'].includes(event.key)) return;
    event.preventDefault();
    const next = this.place === 'browser' ? 'server' : 'browser';
    this.#pick(next);
    this.renderRoot.querySelector<HTMLElement>(`[data-place=${next}]`)?.focus();
  }
}

customElements.define('nf-engine-picker', EnginePicker);
