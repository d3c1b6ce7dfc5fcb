/** Every bound of the HTTP interface, in one place. */

export const MAX_N = 16; // choices of one prompt
export const MAX_TOP_LOGPROBS = 20;
export const MAX_PROMPTS = 256; // prompts of one /v1/completions request
export const MAX_CHOICES = 1024; // prompts x n of one request
export const MAX_STOP_STRINGS = 16;
export const MAX_STOP_LENGTH = 1024; // UTF-16 units of one stop string: text held back while it may still match

export const MAX_BODY_BYTES = 10 * 1024 * 1024;
/** A text prompt longer than this per token of context can not fit; refused before it is encoded. */
export const MAX_CHARS_PER_TOKEN = 256;

/** Answer bytes that a client may leave unread before its request is cancelled. */
export const MAX_UNSENT_BYTES = 1024 * 1024;
/** A comment is sent on a stream that was silent this long, so that proxies keep it open. */
export const KEEP_ALIVE_MS = 15_000;

/** The engine counts as dead when its step loop was silent this long. */
export const MAX_HEARTBEAT_SECONDS = 5;
/** How often the server looks after the engine, and the silence after which it gives it up. */
export const WATCH_MS = 5000;
export const MAX_SILENCE_MS = 300_000;
