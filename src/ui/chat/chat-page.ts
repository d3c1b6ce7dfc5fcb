import { css, html, LitElement, nothing } from 'lit';
import { ChatController } from '../controllers/chat-controller.ts';
import './chat-composer.ts';
import './chat-message.ts';
import './engine-picker.ts';
import './load-progress.ts';
import './problem-note.ts';

const IDEAS = [
  'Hi, who are you?',
  'What is continuous batching?',
  'Tell me a short story about a fox.',
  'What is 23 plus 45?',
];

/**
 * The chat page: picks an engine, shows the conversation, sends messages.
 *
 * @element nf-chat-page
 */
export class ChatPage extends LitElement {
  static override styles = css`
    :host {
      display: grid;
      grid-template-rows: auto 1fr auto;
      height: 100dvh;
    }
    header {
      display: flex;
      flex-wrap: wrap;
      gap: 0.5rem 1rem;
      align-items: center;
      padding: 0.6rem 1rem;
      border-bottom: 1px solid var(--line);
      background: var(--panel);
    }
    h1 {
      margin: 0;
      font-size: 1.05rem;
      font-weight: 650;
    }
    .facts {
      flex: 1;
      min-width: 12rem;
      color: var(--muted);
      font-size: 0.85rem;
      overflow-wrap: anywhere;
    }
    main {
      overflow-y: auto;
      padding: 1rem;
      scroll-behavior: smooth;
    }
    .column {
      max-width: 46rem;
      margin: 0 auto;
    }
    .hello {
      margin-top: 12vh;
      text-align: center;
      color: var(--muted);
    }
    .hello h2 {
      color: var(--text);
      font-weight: 600;
    }
    .ideas {
      display: flex;
      flex-wrap: wrap;
      justify-content: center;
      gap: 0.5rem;
    }
    button {
      font: inherit;
      font-size: 0.9rem;
      color: var(--text);
      background: var(--panel);
      border: 1px solid var(--line);
      border-radius: 999px;
      padding: 0.3rem 0.8rem;
      cursor: pointer;
    }
    button:hover:not(:disabled) {
      border-color: var(--accent);
    }
    button:disabled {
      opacity: 0.5;
      cursor: default;
    }
    button:focus-visible {
      outline: 2px solid var(--accent);
      outline-offset: 2px;
    }
    footer {
      padding: 0.75rem 1rem 1rem;
    }
  `;

  readonly #chat = new ChatController(this);

  protected override updated(): void {
    const main = this.renderRoot.querySelector('main');
    if (main && this.#chat.phase === 'answering') main.scrollTop = main.scrollHeight;
  }

  protected override render() {
    const chat = this.#chat;
    const busy = chat.phase === 'answering';
    return html`
      <header>
        <h1>nanoflow</h1>
        <nf-engine-picker
          .place=${chat.place}
          @pick=${(event: CustomEvent) => void chat.choose(event.detail)}
        ></nf-engine-picker>
        <div class="facts" role="status">
          ${chat.engine ? html`${chat.engine.model} on ${chat.engine.device}` : nothing}
        </div>
        <button ?disabled=${chat.messages.length === 0} @click=${() => chat.clear()}>New chat</button>
      </header>
      <main>
        <div class="column" role="log" aria-live="polite" aria-busy=${busy}>
          ${chat.messages.length === 0 ? this.#renderHello() : nothing}
          ${chat.messages.map(
            (message, i) =>
              html`<nf-chat-message
                .message=${{ ...message }}
                .writing=${busy && i === chat.messages.length - 1}
              ></nf-chat-message>`,
          )}
          ${
            chat.phase === 'loading'
              ? html`<nf-load-progress .load=${chat.load} .place=${chat.place}></nf-load-progress>`
              : nothing
          }
          ${
            chat.problem
              ? html`<nf-problem-note
                  .problem=${chat.problem}
                  @retry=${() => chat.place && void chat.choose(chat.place)}
                ></nf-problem-note>`
              : nothing
          }
        </div>
      </main>
      <footer>
        <div class="column">
          <nf-chat-composer
            .ready=${chat.engine !== undefined && !busy}
            .busy=${busy}
            @send=${(event: CustomEvent) => void chat.send(event.detail)}
            @stop=${() => chat.stop()}
          ></nf-chat-composer>
        </div>
      </footer>
    `;
  }

  #renderHello() {
    const chat = this.#chat;
    return html`<div class="hello">
      <h2>Ask the model something</h2>
      <p>
        ${
          chat.place === 'browser'
            ? 'The model runs in this page; nothing you write leaves it.'
            : 'The model runs on the server that this page came from.'
        }
      </p>
      <div class="ideas">
        ${IDEAS.map(
          (idea) =>
            html`<button ?disabled=${chat.phase !== 'ready'} @click=${() => void chat.send(idea)}>
              ${idea}
            </button>`,
        )}
      </div>
    </div>`;
  }
}

customElements.define('nf-chat-page', ChatPage);

declare global {
  interface HTMLElementTagNameMap {
    'nf-chat-page': ChatPage;
  }
}
