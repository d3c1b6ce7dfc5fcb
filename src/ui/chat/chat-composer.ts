import { css, html, LitElement } from 'lit';

/**
 * Where a message is written. Enter sends, Shift+Enter makes a new line.
 *
 * @element nf-chat-composer
 * @fires send - detail: the text
 * @fires stop - end the running answer
 */
export class ChatComposer extends LitElement {
  static override styles = css`
    form {
      display: flex;
      gap: 0.5rem;
      align-items: end;
      padding: 0.5rem;
      border: 1px solid var(--line);
      border-radius: 1rem;
      background: var(--panel);
    }
    form:focus-within {
      border-color: var(--accent);
    }
    textarea {
      flex: 1;
      resize: none;
      border: 0;
      outline: 0;
      padding: 0.35rem 0.5rem;
      max-height: 12rem;
      field-sizing: content;
      font: inherit;
      color: inherit;
      background: transparent;
    }
    button {
      font: inherit;
      border: 0;
      border-radius: 0.7rem;
      padding: 0.4rem 1rem;
      background: var(--accent);
      color: var(--accent-text);
      cursor: pointer;
    }
    button:disabled {
      opacity: 0.45;
      cursor: default;
    }
    button:focus-visible {
      outline: 2px solid var(--text);
      outline-offset: 2px;
    }
  `;
  static override properties = {
    ready: { attribute: false },
    busy: { attribute: false },
    text: { state: true },
  };

  declare ready: boolean;
  declare busy: boolean;
  declare text: string;

  constructor() {
    super();
    this.ready = false;
    this.busy = false;
    this.text = '';
  }

  protected override render() {
    return html`<form @submit=${this.#onSubmit}>
      <textarea
        rows="1"
        aria-label="Message"
        placeholder="Write a message"
        .value=${this.text}
        @input=${(event: InputEvent) => (this.text = (event.target as HTMLTextAreaElement).value)}
        @keydown=${this.#onKey}
      ></textarea>
      ${
        this.busy
          ? html`<button type="button" @click=${() => this.dispatchEvent(new CustomEvent('stop'))}>
              Stop
            </button>`
          : html`<button ?disabled=${!this.ready || this.text.trim() === ''}>Send</button>`
      }
    </form>`;
  }

  #onKey(event: KeyboardEvent): void {
    // An Enter that ends the composition of a character (Japanese, Chinese, ...) does not send.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    this.#onSubmit(event);
  }

  #onSubmit(event: Event): void {
    event.preventDefault();
    const text = this.text.trim();
    if (!this.ready || text === '') return;
    this.text = '';
    this.dispatchEvent(new CustomEvent('send', { detail: text }));
  }
}

customElements.define('nf-chat-composer', ChatComposer);
