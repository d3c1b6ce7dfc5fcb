/** Entry of the page. */
import './chat/chat-page.ts';
