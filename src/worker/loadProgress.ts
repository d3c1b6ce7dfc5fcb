/** Keeps progress messages from flooding a front end: a checkpoint may have thousands of tensors. */
import type { LoadProgress } from '../protocol.ts';

/**
 * Passes progress on, but of the weights at most one message in `gapMs`. The last one of a stage always arrives, and
 * every compiled kernel does: each is logged.
 */
export function throttleProgress(
  send: (progress: LoadProgress) => void,
  gapMs = 50,
  now: () => number = () => performance.now(),
): (progress: LoadProgress) => void {
  let held: LoadProgress | undefined;
  let sentAt = -Infinity;
  return (progress) => {
    const isCount = progress.stage === 'weights' && progress.done < progress.total;
    if (isCount && now() - sentAt < gapMs) {
      held = progress;
      return;
    }
    if (isCount) sentAt = now();
    else if (held && (held.stage !== progress.stage || progress.done < held.done)) send(held);
    held = undefined;
    send(progress);
  };
}
