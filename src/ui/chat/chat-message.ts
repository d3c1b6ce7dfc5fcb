import { css, html, LitElement, nothing } from 'lit';
import type { AnswerStats, Message } from '../controllers/chat-controller.ts';

const CUT = {
  stopped: 'stopped',
  length: 'cut at the length limit',
  failed: 'broken off by an error',
};

/**
 * One turn of the conversation; answers show their speed.
 *
 * @element nf-chat-message
 */
export class ChatMessage extends LitElement {
  static override styles = css`
    :host {
      display: block;
      margin: 0.9rem 0;
    }
    article {
      width: fit-content;
      max-width: 100%;
      box-sizing: border-box;
      padding: 0.55rem 0.9rem;
      border: 1px solid var(--line);
      border-radius: 0.9rem;
      background: var(--panel);
      overflow-wrap: anywhere;
    }
    .text {
      white-space: pre-wrap;
    }
    .user {
      margin-left: auto;
      background: var(--mine);
      border-color: transparent;
    }
    .stats {
      margin: 0.25rem 0.9rem;
      color: var(--muted);
      font-size: 0.8rem;
      font-variant-numeric: tabular-nums;
    }
    .cursor {
      display: inline-block;
      width: 0.5em;
      height: 1em;
      vertical-align: text-bottom;
      background: var(--accent);
      animation: blink 1s steps(2) infinite;
    }
    @keyframes blink {
      to {
        opacity: 0;
      }
    }
    @media (prefers-reduced-motion: reduce) {
      .cursor {
        animation: none;
      }
    }
  `;
  static override properties = { message: { attribute: false }, writing: { attribute: false } };

  declare message: Message;
  declare writing: boolean;

  protected override render() {
    const { role, content, stats, cut } = this.message;
    const who = role === 'user' ? 'You' : 'Model';
    return html`<article class=${role} aria-label=${who}>
        <span class="text" .textContent=${content}></span>
        ${this.writing ? html`<span class="cursor"></span>` : nothing}
      </article>
      ${
        role === 'assistant' && stats
          ? html`<p class="stats">${describe(stats)}${cut ? `, ${CUT[cut]}` : ''}</p>`
          : nothing
      }`;
  }
}

function describe({ tokens, tokensPerSecond, firstTokenMs }: AnswerStats): string {
  const parts = [`${tokens} token${tokens === 1 ? '' : 's'}`];
  if (tokensPerSecond !== undefined)
    parts.push(`${tokensPerSecond.toFixed(tokensPerSecond < 100 ? 1 : 0)} tokens/s`);
  parts.push(
    `first after ${firstTokenMs < 1000 ? `${firstTokenMs.toFixed(0)} ms` : `${(firstTokenMs / 1000).toFixed(1)} s`}`,
  );
  return parts.join(' · ');
}

customElements.define('nf-chat-message', ChatMessage);
