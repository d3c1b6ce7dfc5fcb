import { css, html, LitElement } from 'lit';
import type { LoadState, Place } from './engines.ts';

/**
 * How far loading is.
 *
 * @element nf-load-progress
 */
export class LoadProgressBar extends LitElement {
  static override styles = css`
    :host {
      display: block;
      max-width: 26rem;
      margin: 2rem auto;
      color: var(--muted);
      font-size: 0.9rem;
    }
    progress {
      width: 100%;
      accent-color: var(--accent);
    }
    p {
      display: flex;
      justify-content: space-between;
      gap: 1rem;
      margin: 0 0 0.3rem;
    }
    .detail {
      overflow: hidden;
      text-overflow: ellipsis;
      white-space: nowrap;
    }
  `;
  static override properties = { load: { attribute: false }, place: { attribute: false } };

  declare load: LoadState | undefined;
  declare place: Place | undefined;

  protected override render() {
    const { load } = this;
    const label =
      load?.label ?? (this.place === 'server' ? 'Connecting to the server' : 'Starting the engine');
    return html`<p><span id="label">${label}</span><span class="detail">${load?.detail ?? ''}</span></p>
      ${
        load?.share === undefined
          ? html`<progress aria-labelledby="label"></progress>`
          : html`<progress aria-labelledby="label" max="1" .value=${load.share}></progress>`
      }`;
  }
}

customElements.define('nf-load-progress', LoadProgressBar);
