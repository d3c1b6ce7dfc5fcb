import { css, html, LitElement, nothing } from 'lit';
import { PROBLEMS, type ChatProblem } from './engines.ts';
import { rememberApiKey } from './server-engine.ts';

/**
 * What went wrong, and what helps.
 *
 * @element nf-problem-note
 * @fires retry - the user wants to try again
 */
export class ProblemNote extends LitElement {
  static override styles = css`
    :host {
      display: block;
      margin: 1rem 0;
      padding: 0.75rem 1rem;
      border-left: 4px solid var(--alarm);
      border-radius: 0.4rem;
      background: var(--alarm-back);
    }
    h3 {
      margin: 0;
      font-size: 1rem;
      color: var(--alarm);
    }
    p {
      margin: 0.3rem 0;
    }
    .detail {
      color: var(--muted);
      font-size: 0.85rem;
      overflow-wrap: anywhere;
    }
    form {
      display: flex;
      gap: 0.5rem;
      margin-top: 0.5rem;
    }
    input,
    button {
      font: inherit;
      padding: 0.3rem 0.7rem;
      border: 1px solid var(--line);
      border-radius: 0.4rem;
      background: var(--panel);
      color: var(--text);
    }
    button {
      cursor: pointer;
    }
  `;
  static override properties = { problem: { attribute: false } };

  declare problem: ChatProblem;

  protected override render() {
    const { kind, message } = this.problem;
    const { title, remedy } = PROBLEMS[kind];
    return html`<div role="alert" data-kind=${kind}>
      <h3>${title}</h3>
      <p>${remedy}</p>
      <p class="detail">${message}</p>
      <form @submit=${this.#onSubmit}>
        ${
          kind === 'unauthorized'
            ? html`<input type="password" name="key" aria-label="API key" placeholder="API key" required />`
            : nothing
        }
        <button>${kind === 'unauthorized' ? 'Use this key' : 'Try again'}</button>
      </form>
    </div>`;
  }

  #onSubmit(event: SubmitEvent): void {
    event.preventDefault();
    const key = new FormData(event.target as HTMLFormElement).get('key');
    if (typeof key === 'string') rememberApiKey(key);
    this.dispatchEvent(new CustomEvent('retry'));
  }
}

customElements.define('nf-problem-note', ProblemNote);
