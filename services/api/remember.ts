/**
 * Keeps an answer for a while; whoever asks meanwhile waits for the same one. A failure is not kept.
 *
 * @param lives - milliseconds, from when it was asked for; as a function: asked each time
 */
export function remember<T>(lives: number | (() => number), make: () => Promise<T>): () => Promise<T> {
  let at = Number.NEGATIVE_INFINITY;
  let kept: Promise<T> | null = null;
  return () => {
    const livesMs = typeof lives === 'number' ? lives : lives();
    if (kept === null || performance.now() - at > livesMs) {
      at = performance.now();
      const made = make();
      kept = made;
      made.catch(() => {
        if (kept === made) kept = null;
      });
    }
    return kept;
  };
}
